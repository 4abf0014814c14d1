"""What the human wrote: frozen, typed, strict. Read, never written.

``load_config(file, overrides)`` is the only way in. Every error names the key, the value, the rule and
the fix. The module knows nothing of torch, so that errors answer at once and a login node can import it.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from dist_train.errors import ConfigError
from dist_train.tasks import Metric, Task, data_format, disagreements

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Level = Annotated[int, Field(ge=0, le=255)]


def seconds_of(walltime: str) -> int:
    """Seconds in a SLURM-style ``[days-]hours:minutes:seconds``, ``minutes:seconds`` or ``minutes``.

    >>> seconds_of("1-00:00:30")
    86430
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+)(?::(\d+))?", walltime)
    if not match:
        raise ValueError(f"{walltime!r} is no walltime: write [days-]hours:minutes:seconds, such as 0:30:00")
    days, first, second, third = match.groups()
    if third is not None:  # h:m:s
        hours, minutes, seconds = int(first or 0), int(second), int(third)
    elif days is not None:  # d-h[:m]
        hours, minutes, seconds = (int(first), int(second), 0) if first else (int(second), 0, 0)
    else:  # m[:s]
        hours, minutes, seconds = 0, int(first or second), int(second) if first else 0
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _walltime(value: str) -> str:
    seconds_of(value)
    return value


Walltime = Annotated[str, AfterValidator(_walltime)]


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{bounds[0]} is more than {bounds[1]}: write the smaller bound first")
    return bounds


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are errors, and nothing can be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class RunConfig(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Names the run folder `<output_dir>/<name>`."""
    output_dir: str = "runs"
    seed: NonNegativeInt = 0
    """Data order, augmentation, head initialisation and dropout all follow from it."""
    deterministic: bool = False
    """Only deterministic algorithms: slower, and bit-exact on one kind of hardware."""
    resume: Literal["auto", "must", "never"] = "auto"
    """auto: continue if there is a checkpoint. must: fail if there is none. never: fail if there is one."""


def _freeze(value: Any) -> Any:
    if value in ("none", "backbone") or (isinstance(value, tuple) and value):
        return value
    raise ValueError(
        f"{value!r} must be none, backbone, or a list of patterns such as [conv1, 'layer1.*', 'type:Conv2d', 'all_but_last:2']"
    )


class HeadConfig(Section):
    name: Literal["linear", "mlp"] = "linear"
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (512,)
    """Widths of the hidden layers of an mlp."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """What follows each hidden layer of an mlp."""
    dropout: Fraction = 0.0
    """In front of the last layer, and of an mlp also after each hidden one."""


class ModelConfig(Section):
    source: Literal["timm", "torchvision"] = "timm"
    name: str
    """A name that the source knows (--list-models), or `package.module:callable` for a model of your own."""
    pretrained: bool = True
    """Load the published weights of the model (from the hub's cache, or over the network)."""
    weights: str | None = None
    """A .safetensors or .pth file to start from; wins over `pretrained`."""
    drop_path: Fraction = 0.0
    """Stochastic depth rate, handed to the model's own constructor."""
    head: HeadConfig = HeadConfig()
    freeze: Annotated[Literal["none", "backbone"] | tuple[str, ...], BeforeValidator(_freeze)] = "none"
    """none, backbone, or patterns: names and globs of parameters or modules, `type:CLASS`, `all_but_last:N`."""
    unfreeze_epoch: PositiveInt | None = None
    """From the end of this many epochs on, everything trains."""
    sync_bn: bool = False
    compile: bool = False
    channels_last: bool = False
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""

    @model_validator(mode="after")
    def _something_to_unfreeze(self) -> "ModelConfig":
        if self.unfreeze_epoch is not None and self.freeze == "none":
            raise ValueError(f"unfreeze_epoch ({self.unfreeze_epoch}) needs something frozen: set `model.freeze`")
        return self


class CsvConfig(Section):
    train: str = "train.csv"
    """Table of the training images, with a header line; relative to `data.root`."""
    val: str | None = "val.csv"
    """Table of the validation images; null where `data.val_fraction` takes them from `train`."""
    path: str = "path"
    """Column of the image's path, relative to `data.root`."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("label",)
    """Columns of the label or the targets."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    label_separator: Annotated[str, Field(min_length=1)] = "|"
    """Between the labels of an image, where one column holds them all (multilabel)."""


class DataConfig(Section):
    format: Annotated[str, AfterValidator(data_format)] = "imagefolder"
    """`imagefolder`, `tiny_imagenet`, `csv`, `torchvision`, or `package.module:callable` (docs/data.md)."""
    root: str
    task: Task = "classification"
    """What the targets are: one class, any number of labels, or numbers."""
    name: str | None = None
    """Name of the set where `format` is torchvision, such as FashionMNIST."""
    csv: CsvConfig = CsvConfig()
    val_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training images that becomes the validation set, where there is none; the same in every class."""
    val_seed: NonNegativeInt = 0
    """Decides which images; not `run.seed`, so that runs with other seeds are scored on the same images."""
    image_size: PositiveInt | None = None
    """Side of the square input in pixels; the model's own if not given."""
    mean: tuple[float, float, float] | None = None
    """Of each channel of images in [0, 1]; the model's own if not given."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    workers: NonNegativeInt = 4
    """Loader processes per rank; 0 loads in the training process."""
    prefetch: PositiveInt = 4
    """Batches that each loader process keeps ready."""
    pin_memory: bool = True
    """Copy to the GPU from page-locked memory, beside the computation."""
    persistent_workers: bool = True
    """Keep the loader processes of the validation set from one evaluation to the next."""
    bad_images: Literal["error", "skip"] = "error"
    """An image that cannot be decoded ends the run, or is replaced (in training) or left out (of validation)."""
    max_bad_share: Fraction = 0.01
    """With `bad_images: skip`: more than this share of a split is an error all the same."""


class RandAugmentConfig(Section):
    num_ops: PositiveInt = 2
    """Operations applied to each image, drawn anew for each."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    fill: tuple[Level, Level, Level] = (0, 0, 0)
    """Colour of what a shifted or turned image leaves bare; RGB, 0 to 255."""


class AugmentConfig(Section):
    crop: Literal["center", "random_resized"] = "center"
    """center: resize the shorter side, cut the middle. random_resized: Inception-style random crop."""
    crop_scale: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)] = (0.08, 1.0)
    """Range of the area that a random_resized crop keeps."""
    crop_ratio: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)] = (0.75, 4 / 3)
    """Range of its width over its height."""
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    """How training images are resized; evaluation is always bicubic."""
    hflip: Probability = 0.5
    randaugment: RandAugmentConfig | None = None
    erasing: Probability = 0.0
    """Probability that a rectangle of an image is erased."""
    erasing_scale: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)] = (0.02, 1 / 3)
    """Range of the rectangle's share of the image."""
    erasing_ratio: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)] = (0.3, 10 / 3)
    """Range of its height over its width."""
    erasing_fill: Literal["mean", "colour", "noise"] = "mean"
    """mean: the data's mean colour. colour: one random colour. noise: a random colour at every pixel."""
    mixup: NonNegativeFloat = 0.0
    """Alpha of Mixup's Beta distribution; 0 is off."""
    cutmix: NonNegativeFloat = 0.0
    mix_prob: Probability = 1.0
    """Probability that a batch is mixed at all."""
    mix_switch_prob: Probability = 0.5
    """Probability of CutMix rather than Mixup, where both are on."""


LOSSES = ("cross_entropy", "bce", "focal", "binary_focal", "soft_f1", "mse", "l1", "huber")


def _loss(value: str) -> str:
    if value not in LOSSES and ":" not in value:
        near = difflib.get_close_matches(value, LOSSES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{value!r} must be one of {', '.join(LOSSES)}, or package.module:Class{hint}")
    return value


class LossConfig(Section):
    name: Annotated[str, AfterValidator(_loss)] = "cross_entropy"
    """cross_entropy, bce, focal, binary_focal, soft_f1, mse, l1, huber, or `package.module:Class` for your own."""
    options: dict[str, Any] = {}
    """Arguments of your own loss."""
    label_smoothing: Fraction = 0.0
    """Of class labels, for cross_entropy, bce, focal and binary_focal."""
    class_weights: dict[str, NonNegativeFloat] = {}
    """Factor on the loss of a class, by its name; the mean is still over samples. 1 for classes not given."""
    gamma: NonNegativeFloat = 2.0
    """How much the focal losses play down what is already right."""
    delta: PositiveFloat = 1.0
    """Where huber turns from squares to absolute values."""
    aux_weight: NonNegativeFloat = 0.3
    """Factor on the loss of each auxiliary head (GoogLeNet, Inception)."""
    l1: NonNegativeFloat = 0.0
    """Factor on the sum of absolute values of all trained parameters."""


class OptimConfig(Section):
    name: str = "sgd"
    """sgd, adam, adamw or rmsprop (torch's), or any other name that timm's create_optimizer_v2 knows."""
    lr: PositiveFloat
    momentum: Fraction = 0.9
    nesterov: bool = False
    """For sgd."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: PositiveFloat | None = None
    """The optimizer's own if not given."""
    alpha: Fraction = 0.99
    """Smoothing of rmsprop's squares."""
    weight_decay: NonNegativeFloat = 0.0
    decay_norm_and_bias: bool = True
    """Apply weight decay to norms and biases as well, as torch's optimizers do."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate factor from each layer to the one below it (BEiT); 1 is off."""
    head_lr_scale: PositiveFloat = 1.0


class ScheduleConfig(Section):
    name: Literal["cosine", "constant", "linear", "step", "multistep", "onecycle", "exponential"] = "cosine"
    warmup_epochs: NonNegativeFloat = 0.0
    min_lr: NonNegativeFloat = 0.0
    """No schedule falls below it after the warm-up."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor at each step of step and multistep, and for each epoch of exponential."""
    step_epochs: PositiveFloat = 30.0
    """Epochs between two steps of step."""
    milestones: tuple[PositiveFloat, ...] = ()
    """Epochs at which multistep steps."""
    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the run in which onecycle rises."""

    @model_validator(mode="after")
    def _consistent(self) -> "ScheduleConfig":
        if self.name == "multistep" and not self.milestones:
            raise ValueError("milestones is empty: multistep needs the epochs at which to step, such as [30, 60]")
        if self.name == "onecycle" and self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs:g}) must be 0: onecycle warms up itself, see pct_start"
            )
        return self


class EarlyStoppingConfig(Section):
    patience: PositiveInt
    """Evaluations without an improvement before the run ends."""
    min_delta: NonNegativeFloat = 0.0


class TrainConfig(Section):
    epochs: PositiveInt = 10
    max_steps: PositiveInt | None = None
    """Ends the run earlier than `epochs`, and the schedule with it."""
    global_batch: PositiveInt
    """Images in one optimizer step, over all ranks and accumulated micro-batches."""
    micro_batch: PositiveInt | None = None
    """Images in one forward pass on one rank; `global_batch / world_size` if not given."""
    precision: Literal["fp32", "amp_bf16", "amp_fp16", "fp16"] = "fp32"
    """fp16: all of the forward pass in half precision, but for BatchNorm; the master weights stay float32."""
    tf32: bool = True
    """Let the GPU round what fp32 multiplies to TF32."""
    clip_grad: PositiveFloat | None = None
    """Largest norm of the whole gradient."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights; `eval.weights` says whether it is what is evaluated."""
    early_stopping: EarlyStoppingConfig | None = None
    time_limit: Walltime | None = None
    """`[days-]hours:minutes:seconds` after which the run saves and stops."""
    nonfinite: Literal["error", "skip"] = "error"
    """What a NaN or infinite gradient does: end the run, or skip the step (at most 10 in a row)."""


class EvalConfig(Section):
    every_epochs: PositiveInt = 1
    every_steps: PositiveInt | None = None
    """Wins over `every_epochs`."""
    batch_size: PositiveInt = 64
    """Images in one forward pass: the same at any world size, so that the result is too."""
    metric: Metric = "top1"
    """Decides `best` and early stopping; losses and errors should fall, the others rise."""
    weights: Literal["ema", "raw"] = "ema"
    """Which weights are evaluated and published as `best` and `last`, where `train.ema` is set."""


class CheckpointConfig(Section):
    every_steps: PositiveInt | None = None
    """One epoch if not given."""
    keep: PositiveInt = 2


class WandbConfig(Section):
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online if there is a key and the server answers, else offline; off where wandb is not installed."""
    project: str | None = None
    """`WANDB_PROJECT` or `dist_train` if not given."""
    entity: str | None = None
    """User or team that owns the project; the key's own if not given."""
    name: str | None = None
    """`run.name` if not given."""
    group: str | None = None
    """The experiment that this run belongs to."""
    job_type: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None


class LogConfig(Section):
    every_steps: PositiveInt = 50
    tensorboard: bool = True
    wandb: WandbConfig = WandbConfig()


class DistributedConfig(Section):
    strategy: Literal["auto", "ddp", "dp", "none"] = "auto"
    """auto: DDP under torchrun, DataParallel for one process that sees several GPUs, else neither."""
    timeout_s: PositiveInt = 600
    """How long a rank may keep the others waiting before the job ends with every rank's stack."""


class Config(Section):
    """One training run."""

    run: RunConfig
    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    distributed: DistributedConfig = DistributedConfig()


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, apply ``key.path=value`` overrides, validate.

    Raises:
        ConfigError: the file or an override cannot be read, or some keys are wrong: all are reported.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config file {path}: {error}") from None
    tree = _parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold sections such as `model:` and `data:`, not {tree!r}")
    for override in overrides or []:
        _apply_override(tree, override)
    return parse_config(tree)


def parse_config(tree: dict[str, Any]) -> Config:
    """Validate a tree of plain values.

    Raises:
        ConfigError: one line per wrong key.
    """
    try:
        cfg = Config.model_validate(_tuples(tree))
    except ValidationError as error:
        lines = [_explain(item, tree) for item in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None
    faults = disagreements(cfg.data.format, cfg.data.task, cfg.eval.metric, cfg.loss.name, _mixing(cfg.augment))
    if faults:
        raise ConfigError("\n".join(faults))
    return cfg


def _mixing(cfg: AugmentConfig) -> str | None:
    """The key that has images mixed, if any."""
    return next((name for name in ("mixup", "cutmix") if getattr(cfg, name)), None)


NOT_ARITHMETIC = (
    "run.name", "run.output_dir", "run.resume", "model.compile", "data.root", "data.workers", "data.prefetch",
    "data.pin_memory", "data.persistent_workers", "data.bad_images", "data.max_bad_share", "train.epochs", "train.max_steps", "train.micro_batch", "train.early_stopping", "train.time_limit", "eval.every_epochs",
    "eval.every_steps", "eval.batch_size", "checkpoint", "log", "distributed",
)  # fmt: skip


def arithmetic(cfg: Config) -> dict[str, Any]:
    """What of a config decides the weights that a run arrives at, by dotted key: it must not change on a resume.

    Left out are conveniences, the length of the run, and what the data's fingerprint stands for.
    """
    flat: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if prefix in NOT_ARITHMETIC:
            return
        if isinstance(value, dict):
            for key, item in value.items():
                add(f"{prefix}.{key}" if prefix else key, item)
        else:
            flat[prefix] = value

    add("", cfg.model_dump(mode="json"))
    return flat


def dump_config(cfg: Config) -> str:
    """The resolved configuration as YAML that ``load_config`` reads back to an equal one."""
    return yaml.safe_dump(cfg.model_dump(mode="json"), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``1e-4`` is a number, ``on`` is a string, and a key written twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regexp) for tag, regexp in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf))$"),
    list("-+.0123456789"),
)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{override!r} is no override: write key.path=value, such as optim.lr=1e-4")
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            child = tree[parent] = {}
        tree = child
    tree[leaf] = _parse_yaml(value, f"the value of {key}")


def _tuples(value: Any) -> Any:
    """YAML knows lists only, and strict validation wants tuples where the type is a tuple."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _explain(error: Any, tree: dict[str, Any]) -> str:
    """One line for one of pydantic's errors: key, value, rule, fix."""
    location = [str(part) for part in error["loc"]]
    parent, known = _section_at(location)
    key = ".".join(location)
    match error["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(location[-1], known, n=1)
            fix = (
                f"did you mean `{'.'.join([*location[:-1], near[0]])}`?" if near else f"{parent} has {', '.join(known)}"
            )
            return f"`{key}` is not a key: {fix}"
        case "missing":
            return f"`{key}` is missing: set it in the file, or give {key}=... on the command line"
        case "literal_error":
            valid = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            near = difflib.get_close_matches(str(error["input"]), valid, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            return f"`{key}` ({error['input']!r}) must be one of {', '.join(valid)}{hint}"
        case "value_error":
            return f"`{key}`: {error['ctx']['error']}"
        case _:
            rule = error["msg"].replace("Input should", "must")
            default = _default_at(location)
            fix = f"; the default is {default!r}" if default is not None else ""
            return f"`{key}` ({error['input']!r}) {rule}{fix}"


def _section_at(location: list[str]) -> tuple[str, list[str]]:
    """The name and the keys of the section that holds ``location``."""
    section: type[BaseModel] = Config
    for part in location[:-1]:
        inner = _section_class(section, part)
        if inner is None:
            break
        section = inner
    return section.__name__.removesuffix("Config").lower() or "the file", list(section.model_fields)


def _section_class(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    field = section.model_fields.get(key)
    if field is None:
        return None
    candidates = [field.annotation, *get_args(field.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _default_at(location: list[str]) -> Any:
    section: type[BaseModel] = Config
    for part in location:
        inner = _section_class(section, part)
        if inner is None:
            field = section.model_fields.get(part)
            return None if field is None or field.is_required() else field.default
        section = inner
    return None
