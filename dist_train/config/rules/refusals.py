"""Rules about values that are valid alone and wrong together. A rule yields one line per error, with the fix.

A rule in ``AT_EVERY_START`` refuses every start. A rule that we add later goes into ``WHEN_A_RUN_BEGINS``: it refuses a new
run, and only warns when an older run is resumed.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dist_train.config.choices import FORMATS, LOSSES, METRICS
from dist_train.config.ops.table import OPS
from dist_train.config.rules.divided_weights import needs_whole_weights
from dist_train.config.rules.learning_rates import (
    endless_warm_up,
    nothing_between,
    rising_rate,
    two_rates,
    warm_up_from_above,
)
from dist_train.config.rules.needed_values import decoded_whole, trained_on_features
from dist_train.config.types import UNPUBLISHED, height_and_width, in_pixels
from dist_train.config.values import is_set

if TYPE_CHECKING:
    from dist_train.config.schema import Config

Rule = Callable[["Config"], Iterator[str]]


def _not_for_the_task(cfg: "Config") -> Iterator[str]:
    task = cfg.data.task
    choices = (
        FORMATS.refusal(cfg.data.format, task),
        METRICS.refusal(cfg.eval.metric, task),
        *(METRICS.refusal(name, task, "eval.metrics") for name in cfg.eval.metrics),
        LOSSES.refusal(cfg.loss.name, task),
    )
    yield from filter(None, choices)
    mixing = _mixing(cfg)
    if task == "regression" and mixing:
        yield f"`augment.{mixing}` mixes images and their labels, but the targets of a regression are not labels; set it to 0"


def _kept_by_what_is_not_computed(cfg: "Config") -> Iterator[str]:
    usual = [name for name, row in METRICS.rows.items() if cfg.data.task in row.usual_for]
    for name in cfg.checkpoint.keep_best:
        if name not in (*usual, *cfg.eval.metrics, cfg.eval.metric):
            yield f"`checkpoint.keep_best` ({name}) is not a metric of the evaluation; add it to `eval.metrics`"


def _options_of_another_loss(cfg: "Config") -> Iterator[str]:
    """Refuse keys of another loss. Other keys without effect only give a warning; these show that another loss was meant."""
    for name in ("label_smoothing", "class_weights", "class_balance", "options", "logit_adjustment"):
        line = LOSSES.unread(f"loss.{name}", cfg.loss.name)
        if line and is_set(cfg, f"loss.{name}"):
            yield f"{line}; remove it, or choose such a loss"


def _smoothing_of_several_labels(cfg: "Config") -> Iterator[str]:
    if cfg.loss.label_smoothing and cfg.data.task == "multilabel":
        yield (
            f"`loss.label_smoothing` ({cfg.loss.label_smoothing:g}) is for one class per image, but `data.task` is "
            "multilabel; set it to 0"
        )


def _soft_f1_of_mixed_classes(cfg: "Config") -> Iterator[str]:
    """Refuse soft_f1 with mixed images: it would read their targets as several labels, and use sigmoid instead of softmax."""
    mixing = _mixing(cfg)
    if cfg.loss.name == "soft_f1" and cfg.data.task == "classification" and mixing:
        yield (
            f"`augment.{mixing}` ({getattr(cfg.augment, mixing):g}): `loss.name` soft_f1 cannot count mixed classes; set "
            f"augment.{mixing}=0, or use another loss"
        )


def _ops_on_the_device(cfg: "Config") -> Iterator[str]:
    """Refuse operations that work on the CPU only, and a second RandAugment: the device draws for one."""
    if not cfg.augment.device:
        return
    for place, op in enumerate(cfg.augment.ops):
        if not OPS.find(op.name).device:
            yield f"`augment.ops.{place}` ({op.name}) works on the CPU, and `augment.device` is true; set it to false"
    if len(cfg.augment.ops) > 1 and all(OPS.find(op.name).device for op in cfg.augment.ops):
        yield "`augment.ops` has several randaugment, and `augment.device` is true; keep one, or set augment.device=false"


def _teacher_of_something_else(cfg: "Config") -> Iterator[str]:
    if cfg.loss.distill is not None and cfg.data.task != "classification":
        yield f"`loss.distill` needs one class per image, but `data.task` is {cfg.data.task}; remove it"


def _bf16_base_without_autocast(cfg: "Config") -> Iterator[str]:
    lora = cfg.model.lora
    if lora is not None and lora.base_dtype == "bf16" and cfg.train.precision != "amp_bf16":
        yield (
            f"`model.lora.base_dtype` (bf16) needs `train.precision` amp_bf16, not {cfg.train.precision}: only there the "
            "layers compute with bfloat16 weights anyway; use fp32"
        )


def _one_way_to_choose_images(cfg: "Config") -> Iterator[str]:
    data = cfg.data
    for first, second in (("fold", "val_fraction"), ("train_fraction", "shots")):
        if getattr(data, first) is not None and getattr(data, second) is not None:
            yield (
                f"`data.{first}` ({getattr(data, first)}) and `data.{second}` ({getattr(data, second)}) are two ways to choose "
                "the same images; remove one of them"
            )
    if data.task != "classification" and data.shots is not None:
        yield f"`data.shots` ({data.shots}) counts images of one class each, but `data.task` is {data.task}; use `data.train_fraction`"


def _sampling_of_other_data(cfg: "Config") -> Iterator[str]:
    data, sampling = cfg.data, cfg.data.sampling
    if sampling is None:
        return
    if sampling.column is None and data.task != "classification":
        yield (
            f"`data.sampling` ({sampling.name}) needs one class for each image, but `data.task` is {data.task}; give each image "
            "a weight in the table: {column: NAME}"
        )
    if cfg.augment.repeats > 1:
        yield (
            f"`data.sampling` ({sampling.name}) and `augment.repeats` ({cfg.augment.repeats}) both say how often an epoch sees an "
            "image; remove one of them"
        )
    if sampling.column is not None and data.format != "csv":
        yield f"`data.sampling.column` ({sampling.column}) needs `data.format` csv, but it is {data.format}; use balanced or sqrt"


def _weights_of_no_mean_over_samples(cfg: "Config") -> Iterator[str]:
    if cfg.data.csv.weight is None:
        return
    loss, mixing = cfg.loss, _mixing(cfg)
    reason = ""
    if loss.objective is not None:
        reason = f"`loss.objective` ({loss.objective}) computes its own loss"
    elif loss.distill is not None:
        reason = "`loss.distill` adds the loss of a teacher, which has no weights"
    elif (row := LOSSES.find(loss.name)).whole_batch or row is LOSSES.own:
        listed = ", ".join(name for name, row in LOSSES.of_task(cfg.data.task).items() if not row.whole_batch)
        reason = f"`loss.name` ({loss.name}) is not one of {listed}, which are means over samples"
    elif mixing:
        reason = f"`augment.{mixing}` makes one image of two, with two weights"
    if reason:
        yield f"`data.csv.weight` ({cfg.data.csv.weight}) multiplies the loss of each sample, but {reason}; remove one of the two"


def _adjusted_twice(cfg: "Config") -> Iterator[str]:
    loss, sampling = cfg.loss, cfg.data.sampling
    if loss.logit_adjustment is not None and (sampling is not None or loss.class_balance is not None):
        other = "data.sampling" if sampling is not None else "loss.class_balance"
        yield (
            f"`loss.logit_adjustment` ({loss.logit_adjustment:g}) and `{other}` both correct for rare classes, and the first "
            "reckons with images as frequent as in the training set; remove one of them"
        )
    if loss.logit_adjustment is not None and loss.objective is not None:
        yield f"`loss.logit_adjustment` ({loss.logit_adjustment:g}) has no part in `loss.objective` ({loss.objective}); remove it"


def _sizes_that_grow(cfg: "Config") -> Iterator[str]:
    sizes = cfg.augment.size_schedule
    if sizes is None:
        return
    if cfg.augment.device:
        yield "`augment.size_schedule` needs images that are resized on the CPU, and `augment.device` is true; set it to false"
    last, size = list(sizes.values())[-1], cfg.data.image_size
    if size is not None and height_and_width(last) != height_and_width(size):
        yield (
            f"`augment.size_schedule` ends with {in_pixels(height_and_width(last))}, but `data.image_size` is "
            f"{in_pixels(height_and_width(size))}: an evaluation would see another size than the end of training; make both equal"
        )


def _statistics_of_other_channels(cfg: "Config") -> Iterator[str]:
    channels = cfg.data.channels
    for key, values in (("mean", cfg.data.mean), ("std", cfg.data.std)):
        if values is not None and len(values) != channels:
            yield f"`data.{key}` ({list(values)!r}) must have one number for each of `data.channels` ({channels})"


def _operations_on_rgb_only(cfg: "Config") -> Iterator[str]:
    """Refuse what knows only RGB of 8 bits."""
    data, augment = cfg.data, cfg.augment
    if (data.channels, data.bits) == (3, 8):
        return
    what = f"`data.channels` is {data.channels}" if data.channels != 3 else f"`data.bits` is {data.bits}"
    built_in = [f"ops.{place}` ({op.name})" for place, op in enumerate(augment.ops) if op.name in OPS.rows]
    for key in [*built_in, *(["device`"] if augment.device else [])]:
        yield f"`augment.{key} works on RGB images of 8 bits only, and {what}; remove it"


def _unpublished_statistics(cfg: "Config") -> Iterator[str]:
    missing = [key for key, value in (("mean", cfg.data.mean), ("std", cfg.data.std)) if value is None]
    if cfg.data.channels not in (1, 3) and missing:
        yield UNPUBLISHED.format(missing[0], cfg.data.channels)


def _trial_of_a_run_that_goes_on(cfg: "Config") -> Iterator[str]:
    if cfg.train.fast_dev_run and cfg.run.resume == "must":
        yield (
            "`run.resume` (must) continues a run, but `train.fast_dev_run` begins one of its own and removes it; add "
            "run.resume=auto"
        )


AT_EVERY_START: tuple[Rule, ...] = (
    _not_for_the_task,
    _kept_by_what_is_not_computed,
    decoded_whole,
    _options_of_another_loss,
    _smoothing_of_several_labels,
    rising_rate,
    endless_warm_up,
    two_rates,
    warm_up_from_above,
    nothing_between,
    _bf16_base_without_autocast,
    _teacher_of_something_else,
    _ops_on_the_device,
    _one_way_to_choose_images,
    _sampling_of_other_data,
    _adjusted_twice,
    _weights_of_no_mean_over_samples,
    _sizes_that_grow,
    _statistics_of_other_channels,
    _operations_on_rgb_only,
    _trial_of_a_run_that_goes_on,
    needs_whole_weights,
    trained_on_features,
)

WHEN_A_RUN_BEGINS: tuple[tuple[str, Rule], ...] = (
    ("0.2.0", _soft_f1_of_mixed_classes),
    ("0.2.0", _unpublished_statistics),
)
"""Pairs of the version that added a rule, and the rule."""


def refused_always(cfg: "Config") -> list[str]:
    """Return the errors of a config that refuse every start, of a new run or a resumed one."""
    return [line for rule in AT_EVERY_START for line in rule(cfg)]


def refused_at_the_beginning(cfg: "Config") -> list[str]:
    """Return the errors of a config that refuse a new run, and are only warnings at a resume."""
    return [f"{line} (a rule since version {version})" for version, rule in WHEN_A_RUN_BEGINS for line in rule(cfg)]


def _mixing(cfg: "Config") -> str | None:
    """Return the name of the key that mixes images; None if there is none."""
    return next((name for name in ("mixup", "cutmix") if getattr(cfg.augment, name)), None)
