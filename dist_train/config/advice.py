"""What in a config is allowed and yet hardly meant: keys that do nothing beside the others, lengths that do not go together."""

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from dist_train.config.plan import Plan
from dist_train.config.schema import Config

IDLE: dict[str, tuple[Callable[[Config], bool], str]] = {
    "model.head.hidden": (lambda c: c.model.head.name == "mlp", "`model.head.name` mlp"),
    "model.head.activation": (lambda c: c.model.head.name == "mlp", "`model.head.name` mlp"),
    "data.name": (lambda c: c.data.format == "torchvision", "`data.format` torchvision"),
    "data.csv": (lambda c: c.data.format == "csv", "`data.format` csv"),
    "data.val_seed": (lambda c: c.data.val_fraction is not None, "`data.val_fraction`"),
    "data.cache": (lambda c: c.augment.device, "`augment.device` true"),
    "data.max_bad_share": (lambda c: c.data.bad_images == "skip", "`data.bad_images` skip"),
    "augment.crop_scale": (lambda c: c.augment.crop == "random_resized", "`augment.crop` random_resized"),
    "augment.crop_ratio": (lambda c: c.augment.crop == "random_resized", "`augment.crop` random_resized"),
    "augment.erasing_scale": (lambda c: c.augment.erasing > 0, "`augment.erasing`"),
    "augment.erasing_ratio": (lambda c: c.augment.erasing > 0, "`augment.erasing`"),
    "augment.erasing_fill": (lambda c: c.augment.erasing > 0, "`augment.erasing`"),
    "augment.mix_prob": (lambda c: c.augment.mixup + c.augment.cutmix > 0, "`augment.mixup` or `augment.cutmix`"),
    "augment.mix_switch_prob": (lambda c: c.augment.mixup * c.augment.cutmix > 0, "both `augment.mixup` and `cutmix`"),
    "loss.gamma": (lambda c: c.loss.name in ("focal", "binary_focal"), "`loss.name` focal or binary_focal"),
    "loss.delta": (lambda c: c.loss.name == "huber", "`loss.name` huber"),
    "optim.nesterov": (lambda c: c.optim.name.lower() == "sgd", "`optim.name` sgd"),
    "optim.betas": (lambda c: c.optim.name.lower() not in ("sgd", "rmsprop"), "optimizers such as adam"),
    "optim.alpha": (lambda c: c.optim.name.lower() == "rmsprop", "`optim.name` rmsprop"),
    "optim.momentum": (lambda c: c.optim.name.lower() not in ("adam", "adamw"), "optimizers such as sgd"),
    "schedule.gamma": (
        lambda c: c.schedule.name in ("step", "multistep", "exponential"),
        "`schedule.name` step, multistep or exponential",
    ),
    "schedule.step_epochs": (lambda c: c.schedule.name == "step", "`schedule.name` step"),
    "schedule.milestones": (lambda c: c.schedule.name == "multistep", "`schedule.name` multistep"),
    "schedule.pct_start": (lambda c: c.schedule.name == "onecycle", "`schedule.name` onecycle"),
    "schedule.min_lr": (lambda c: c.schedule.name != "constant", "a `schedule.name` other than constant"),
    "eval.every_epochs": (lambda c: c.eval.every_steps is None, "no `eval.every_steps`"),
    "eval.weights": (lambda c: c.train.ema is not None, "`train.ema`"),
}
"""Keys that need another one to do anything: whether it is there, and which."""


def doubts(cfg: Config, plan: Plan, outputs: int) -> list[str]:
    """A sentence each; none of them ends a run.

    Args:
        outputs: classes, or targets of a regression.
    """
    idle = [f"`{key}` does nothing here: it needs {wanted}" for key, (used, wanted) in IDLE.items() if _set(cfg, key) and not used(cfg)]  # fmt: skip
    if cfg.eval.metric == "top5" and outputs <= 5:
        idle.append(f"`eval.metric` (top5) is always 100 with {outputs} classes; use top1")
    return [*idle, *_lengths(cfg, plan)]


def _lengths(cfg: Config, plan: Plan) -> Iterator[str]:
    ema, schedule, steps = cfg.train.ema, cfg.schedule, plan.total_steps
    if ema is not None and cfg.eval.weights == "ema" and 1 / (1 - ema) > steps:
        yield (
            f"`train.ema` ({ema:g}) averages over about {1 / (1 - ema):.0f} steps, and the run has {steps}: the weights that "
            f"are evaluated hardly leave their start; use {max(0.5, 1 - 10 / steps):.3g} or less, or `eval.weights` raw"
        )
    if schedule.warmup_epochs and plan.warmup_steps == steps:
        yield f"`schedule.warmup_epochs` ({schedule.warmup_epochs:g}): all {steps} steps of the run are warm-up; use fewer"
    first = schedule.step_epochs if schedule.name == "step" else min(schedule.milestones, default=0.0)
    if schedule.name in ("step", "multistep") and first >= plan.epoch(steps):
        key = "step_epochs" if schedule.name == "step" else "milestones"
        yield (
            f"`schedule.{key}`: the first step would be at epoch {first:g}, and the run ends at {plan.epoch(steps):g}: the "
            "learning rate never falls; use an earlier one"
        )


def _set(cfg: Config, key: str) -> bool:
    """Whether a value other than the default was given."""
    value: Any = cfg
    for name in key.split("."):
        section: BaseModel = value
        value = getattr(section, name)
    field = type(section).model_fields[name]
    return name in section.model_fields_set and value != field.default
