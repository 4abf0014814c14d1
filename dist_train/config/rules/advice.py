"""Warnings about a valid config: keys without effect, and lengths that do not fit together."""

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

from dist_train.config.choices import FORMATS, METRICS, STRATEGIES, TABLES
from dist_train.config.plan import Plan
from dist_train.config.schema import Config
from dist_train.config.types import height_and_width, is_remote
from dist_train.config.values import is_set

Need = tuple[Callable[[Config], bool], str]
"""Whether a config meets a condition, and the condition in words."""

_CROPS: Need = (lambda c: c.augment.crop == "random_resized", "`augment.crop` is random_resized")
_ERASES: Need = (lambda c: c.augment.erasing > 0, "`augment.erasing` is set")
_MIXES: Need = (lambda c: c.augment.mixup + c.augment.cutmix > 0, "`augment.mixup` or `augment.cutmix` is set")
_MIXES_BOTH_WAYS: Need = (
    lambda c: c.augment.mixup * c.augment.cutmix > 0,
    "`augment.mixup` and `augment.cutmix` are both set",
)
_DRAWS_IMAGES: Need = (
    lambda c: c.data.draws_validation or bool(c.data.train_fraction or c.data.shots),
    "`data.val_fraction`, `data.fold`, `data.train_fraction` or `data.shots` is set",
)

NEEDS: dict[str, Need] = {
    "data.val_seed": _DRAWS_IMAGES,
    "data.csv.group": (lambda c: c.data.fold is not None, "`data.fold` is set"),
    "data.stage": (lambda c: bool(FORMATS.find(c.data.format).archives), "`data.format` is tar, zip or hf"),
    "data.cache": (lambda c: c.augment.device, "`augment.device` is true"),
    "data.max_bad_share": (lambda c: c.data.bad_images == "skip", "`data.bad_images` is skip"),
    "augment.crop_scale": _CROPS,
    "augment.crop_ratio": _CROPS,
    "augment.erasing_count": _ERASES,
    "augment.erasing_scale": _ERASES,
    "augment.erasing_ratio": _ERASES,
    "augment.erasing_fill": _ERASES,
    "augment.mix_prob": _MIXES,
    "augment.mix_switch_prob": _MIXES_BOTH_WAYS,
    "optim.layer_decay_min": (lambda c: c.optim.layer_decay < 1, "`optim.layer_decay` is less than 1"),
    "schedule.warmup_lr": (lambda c: c.schedule.warmup_epochs > 0, "`schedule.warmup_epochs` is set"),
    "augment.mix_mode": _MIXES,
    "augment.mix_off_epoch": _MIXES,
    "augment.cutmix_minmax": (lambda c: c.augment.cutmix > 0, "`augment.cutmix` is set"),
    "eval.every_epochs": (lambda c: c.eval.every_steps is None, "`eval.every_steps` is null"),
    "eval.weights": (lambda c: c.train.ema is not None, "`train.ema` is set"),
}
"""Key -> the condition without which it has no effect.

Keys that only some alternatives of a choice read are not here: the rows of ``choices.py`` name them."""


def advise(cfg: Config, plan: Plan, outputs: int, device: str) -> list[str]:
    """Return one warning per problem. A warning never stops a run.

    Args:
        outputs: number of classes, or of targets in a regression.
        device: the kind of device that computes: "cpu" or "cuda".
    """
    return [
        *_without_effect(cfg),
        *_always_right(cfg, outputs),
        *_lengths(cfg, plan),
        *_alone(cfg, plan),
        *_sizes_and_formats(cfg, device),
    ]


def _without_effect(cfg: Config) -> Iterator[str]:
    for table in TABLES:
        name = _name(cfg, table.key)
        lines = ((key, table.unread(key, name)) for key in table.read_keys())
        yield from (line for key, line in lines if line and is_set(cfg, key))
    for key, (has_effect, condition) in NEEDS.items():
        if is_set(cfg, key) and not has_effect(cfg):
            yield f"`{key}` has no effect unless {condition}"


def _name(cfg: Config, key: str) -> str:
    """Return the name that a table's key holds, with options or alone."""
    value: Any = reduce(getattr, key.split("."), cfg)
    return str(getattr(value, "name", value))


def _alone(cfg: Config, plan: Plan) -> Iterator[str]:
    if plan.world_size == 1 and STRATEGIES.find(cfg.distributed.strategy.name).shards:
        yield (
            f"`distributed.strategy` ({cfg.distributed.strategy.name}) has no effect in one process, which holds all weights; start "
            "several with torchrun"
        )


def _always_right(cfg: Config, outputs: int) -> Iterator[str]:
    if METRICS.find(cfg.eval.metric).given.get("k", 0) >= outputs:
        yield f"`eval.metric` ({cfg.eval.metric}) is always 100 with {outputs} classes; use top1"


SMALLEST = 32
"""Pixels. Most models halve the image five times: below this size one position is left, or padding."""


def _sizes_and_formats(cfg: Config, device: str) -> Iterator[str]:
    size = cfg.data.image_size
    if size is not None and min(height_and_width(size)) < SMALLEST:
        yield (
            f"`data.image_size` ({size if isinstance(size, int) else list(size)}): most models halve an image five times, so that nothing but one position and padding "
            f"is left of less than {SMALLEST} px; use at least {SMALLEST}, or remove the key to use the model's own size"
        )
    if device == "cpu" and cfg.train.precision in ("amp_fp16", "fp16"):
        yield (
            f"`train.precision` ({cfg.train.precision}): this machine has no GPU, and on a CPU half precision is less exact "
            "than fp32 and not faster; use fp32 (or amp_bf16) here"
        )

    if is_remote(cfg.data.root) and cfg.data.stage is None:
        yield (
            f"`data.root` ({cfg.data.root}): each image is a request over the network, in every epoch; set `data.stage` to a folder on "
            "this machine's disk, to which the archives are copied while the training begins"
        )


def _lengths(cfg: Config, plan: Plan) -> Iterator[str]:
    last = max(cfg.augment.size_schedule or (0,))
    if last and last >= plan.epoch(plan.total_steps):
        yield (
            f"`augment.size_schedule`: the run ends at epoch {plan.epoch(plan.total_steps):g}, before the size of epoch {last}, with "
            "which it is evaluated; use an earlier epoch"
        )
    ema, schedule, steps = cfg.train.ema, cfg.schedule, plan.total_steps
    if cfg.train.max_steps is not None and cfg.train.max_steps > steps:
        yield (
            f"`train.max_steps` ({cfg.train.max_steps}) has no effect: `train.epochs` ({cfg.train.epochs}) end the run at step "
            f"{steps}; for {cfg.train.max_steps} steps use train.epochs={-(-cfg.train.max_steps // plan.steps_per_epoch)}"
        )
    if ema is not None and cfg.eval.weights == "ema" and not ema.warmup and ema.every / (1 - ema.decay) > steps:
        yield (
            f"`train.ema` ({ema.decay:g}) averages over about {ema.every / (1 - ema.decay):.0f} steps, but the run has {steps}: "
            f"the averaged weights stay close to the initial ones; use {max(0.5, 1 - 10 * ema.every / steps):.3g} or less, "
            "`train.ema.warmup`, or `eval.weights` raw"
        )
    if plan.mix_off_step is not None and plan.mix_off_step >= steps:
        yield (
            f"`augment.mix_off_epoch` ({cfg.augment.mix_off_epoch}) has no effect: the run ends at epoch {plan.epoch(steps):g}; "
            "use an earlier epoch"
        )
    if schedule.warmup_epochs and plan.warmup_steps >= steps:
        yield f"`schedule.warmup_epochs` ({schedule.warmup_epochs:g}): all {steps} steps of the run are warm-up; use fewer"
    if schedule.restarts and schedule.restarts.every_epochs >= plan.epoch(steps):
        yield (
            f"`schedule.restarts.every_epochs` ({schedule.restarts.every_epochs:g}): the run ends at epoch "
            f"{plan.epoch(steps):g}, before the first restart; use fewer epochs"
        )
    first = schedule.step_epochs if schedule.name == "step" else min(schedule.milestones, default=0.0)
    if schedule.name in ("step", "multistep") and first >= plan.epoch(steps):
        key = "step_epochs" if schedule.name == "step" else "milestones"
        yield (
            f"`schedule.{key}`: the learning rate would first drop at epoch {first:g}, but the run ends at epoch "
            f"{plan.epoch(steps):g}: it never drops; use an earlier epoch"
        )
