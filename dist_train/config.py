"""What the human wrote: frozen, typed, strict. Read, never written.

``load_config(file, overrides)`` is the only way in. Every error names the key, the value, the rule and
the fix. The module knows nothing of torch, so that errors answer at once and a login node can import it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
)

from dist_train.config_data import AugmentConfig, CsvConfig, DataConfig, RandAugmentConfig
from dist_train.config_model import HeadConfig, LossConfig, ModelConfig, OptimConfig, ScheduleConfig
from dist_train.config_text import apply_override, explain, parse_yaml, to_yaml, tuples
from dist_train.config_types import (
    FilePath,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    Walltime,
    seconds_of,
)
from dist_train.errors import ConfigError
from dist_train.tasks import Metric, disagreements

__all__ = [
    "AugmentConfig",
    "CheckpointConfig",
    "Config",
    "CsvConfig",
    "DataConfig",
    "DistributedConfig",
    "EarlyStoppingConfig",
    "EvalConfig",
    "HeadConfig",
    "LogConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "RandAugmentConfig",
    "RunConfig",
    "ScheduleConfig",
    "TrainConfig",
    "WandbConfig",
    "arithmetic",
    "dump_config",
    "load_config",
    "parse_config",
    "seconds_of",
]


class RunConfig(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]
    """Names the run folder `<output_dir>/<name>`."""
    output_dir: FilePath = "runs"
    """Folder of the run folders."""
    seed: NonNegativeInt = 0
    """Data order, augmentation, head initialisation and dropout all follow from it."""
    deterministic: bool = False
    """Only deterministic algorithms: slower, and bit-exact on one kind of hardware."""
    resume: Literal["auto", "must", "never"] = "auto"
    """auto: continue if there is a checkpoint. must: fail if there is none. never: fail if there is one."""


class EarlyStoppingConfig(Section):
    patience: PositiveInt
    """Evaluations without an improvement before the run ends."""
    min_delta: NonNegativeFloat = 0.0
    """How much better an evaluation must be than the last one that counted, to count itself."""


class TrainConfig(Section):
    epochs: PositiveInt = 10
    """Times that the run goes through the training images."""
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
    """Off if not given."""
    time_limit: Walltime | None = None
    """`[days-]hours:minutes:seconds` after which the run saves and stops."""
    nonfinite: Literal["error", "skip"] = "error"
    """What a NaN or infinite gradient does: end the run, or skip the step (at most 25 in a row)."""


class EvalConfig(Section):
    every_epochs: PositiveInt = 1
    """Epochs between two evaluations; one is made at the end in any case."""
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
    """The newest so many checkpoints stay."""


class WandbConfig(Section):
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online if there is a key and the server answers, else offline; off where wandb is not installed."""
    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] | None = None
    """`WANDB_PROJECT` or `dist_train` if not given."""
    entity: str | None = None
    """User or team that owns the project; the key's own if not given."""
    name: str | None = None
    """`run.name` if not given."""
    group: str | None = None
    """The experiment that this run belongs to."""
    job_type: str | None = None
    """What kind of run it is in its group."""
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """To find and filter runs by."""
    notes: str | None = None
    """Free text."""


class LogConfig(Section):
    every_steps: PositiveInt = 50
    """Steps between two rows of training metrics."""
    tensorboard: bool = True
    """Write TensorBoard files into the run folder."""
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
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the config file {path}: {error}; save it as UTF-8 text") from None
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        found = "is empty: it" if tree is None else f"holds {type(tree).__name__} {tree!r:.40}, and"
        raise ConfigError(f"{path} {found} must hold sections such as `model:` and `data:`; configs/ has examples")
    for override in overrides or []:
        apply_override(tree, override)
    return parse_config(tree)


def parse_config(tree: dict[str, Any]) -> Config:
    """Validate a tree of plain values.

    Raises:
        ConfigError: one line per wrong key.
    """
    try:
        cfg = Config.model_validate(tuples(tree))
    except RecursionError:
        raise ConfigError("the config holds itself: an anchor (&) around its own alias (*)") from None
    except ValidationError as error:
        lines = [explain(item, Config) for item in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None
    faults = disagreements(cfg.data.format, cfg.data.task, cfg.eval.metric, cfg.loss.name, _mixing(cfg.augment))
    faults += _beyond(cfg)
    if faults:
        raise ConfigError("\n".join(faults))
    return cfg


def _mixing(cfg: AugmentConfig) -> str | None:
    """The key that has images mixed, if any."""
    return next((name for name in ("mixup", "cutmix") if getattr(cfg, name)), None)


def _beyond(cfg: Config) -> list[str]:
    """Values that are possible each for itself, and not together."""
    faults, schedule = [], cfg.schedule
    if schedule.min_lr > cfg.optim.lr:
        faults.append(
            f"`schedule.min_lr` ({schedule.min_lr:g}) is more than `optim.lr` ({cfg.optim.lr:g}), so that the rate would "
            "rise; use a smaller one"
        )
    if schedule.warmup_epochs > cfg.train.epochs:
        faults.append(
            f"`schedule.warmup_epochs` ({schedule.warmup_epochs:g}) is more than `train.epochs` ({cfg.train.epochs}): the "
            "warm-up would never end; use fewer"
        )
    if cfg.loss.label_smoothing and cfg.data.task == "multilabel":
        faults.append(
            f"`loss.label_smoothing` ({cfg.loss.label_smoothing:g}) is for one class an image, and `data.task` is "
            "multilabel; set it to 0"
        )
    return faults


NOT_ARITHMETIC = (
    "run.name", "run.output_dir", "run.resume", "model.compile", "data.root", "data.workers", "data.prefetch",
    "data.pin_memory", "data.persistent_workers", "data.cache", "data.bad_images", "data.max_bad_share", "train.epochs", "train.max_steps", "train.micro_batch", "train.early_stopping", "train.time_limit", "eval.every_epochs",
    "eval.every_steps", "eval.batch_size", "checkpoint", "log", "distributed",
)  # fmt: skip


def arithmetic(cfg: Config) -> dict[str, Any]:
    """What of a config decides the weights that a run arrives at, by dotted key: it must not change on a resume.

    Left out are conveniences, the length of the run, and what the data's fingerprint stands for. Keys are the same for
    every config: what may be absent, or has names of the user's own, is one value.
    """
    flat: dict[str, Any] = {}

    def add(prefix: str, section: type[BaseModel], values: dict[str, Any]) -> None:
        for name, field in section.model_fields.items():
            key, kind = f"{prefix}{name}", field.annotation
            if key in NOT_ARITHMETIC:
                continue
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                add(f"{key}.", kind, values[name])
            else:
                flat[key] = values[name]

    add("", Config, cfg.model_dump(mode="json"))
    return flat


def dump_config(cfg: Config) -> str:
    """The resolved configuration as YAML that ``load_config`` reads back to an equal one."""
    return to_yaml(cfg.model_dump(mode="json"))
