"""Values that are right each for itself, and wrong together: one line for each, with the fix.

``AT_EVERY_START`` ends every start. A rule that comes later goes to ``WHEN_A_RUN_BEGINS``: a run that began before the
rule was there can still be resumed, and is warned only.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dist_train.config.choices import FORMATS, LOSSES, METRICS
from dist_train.config.values import is_set

if TYPE_CHECKING:
    from dist_train.config.schema import Config

Rule = Callable[["Config"], Iterator[str]]


def _not_for_the_task(cfg: "Config") -> Iterator[str]:
    task = cfg.data.task
    choices = (
        FORMATS.refusal(cfg.data.format, task),
        METRICS.refusal(cfg.eval.metric, task),
        LOSSES.refusal(cfg.loss.name, task),
    )
    yield from filter(None, choices)
    mixing = _mixing(cfg)
    if task == "regression" and mixing:
        yield f"`augment.{mixing}` mixes images and their labels, and the targets of a regression are no labels; set it to 0"


def _options_of_another_loss(cfg: "Config") -> Iterator[str]:
    """Unlike other keys without an effect, these say that another loss was meant."""
    for key in ("loss.label_smoothing", "loss.class_weights", "loss.options"):
        line = LOSSES.unread(key, cfg.loss.name)
        if line and is_set(cfg, key):
            yield f"{line}; remove it, or choose such a loss"


def _smoothing_of_several_labels(cfg: "Config") -> Iterator[str]:
    if cfg.loss.label_smoothing and cfg.data.task == "multilabel":
        yield (
            f"`loss.label_smoothing` ({cfg.loss.label_smoothing:g}) is for one class per image, and `data.task` is "
            "multilabel; set it to 0"
        )


def _rising_rate(cfg: "Config") -> Iterator[str]:
    if cfg.schedule.min_lr > cfg.optim.lr:
        yield (
            f"`schedule.min_lr` ({cfg.schedule.min_lr:g}) is more than `optim.lr` ({cfg.optim.lr:g}), so that the rate would "
            "rise; use a smaller one"
        )


def _endless_warm_up(cfg: "Config") -> Iterator[str]:
    if cfg.schedule.warmup_epochs > cfg.train.epochs:
        yield (
            f"`schedule.warmup_epochs` ({cfg.schedule.warmup_epochs:g}) is more than `train.epochs` ({cfg.train.epochs}): the "
            "warm-up would never end; use fewer"
        )


def _soft_f1_of_mixed_classes(cfg: "Config") -> Iterator[str]:
    """It takes targets of mixed images for label sets: their outputs would go through a sigmoid, all others' a softmax."""
    mixing = _mixing(cfg)
    if cfg.loss.name == "soft_f1" and cfg.data.task == "classification" and mixing:
        yield (
            f"`augment.{mixing}` ({getattr(cfg.augment, mixing):g}): `loss.name` soft_f1 cannot count mixed classes; set it "
            "to 0, or use another loss"
        )


def _own_transforms_on_the_device(cfg: "Config") -> Iterator[str]:
    if cfg.augment.transforms and cfg.augment.device:
        yield "`augment.transforms` work on the CPU, and `augment.device` is true; set it to false"


AT_EVERY_START: tuple[Rule, ...] = (
    _not_for_the_task,
    _options_of_another_loss,
    _smoothing_of_several_labels,
    _rising_rate,
    _endless_warm_up,
    _own_transforms_on_the_device,
)

WHEN_A_RUN_BEGINS: tuple[tuple[str, Rule], ...] = (("0.2.0", _soft_f1_of_mixed_classes),)
"""The version that a rule came with, and the rule."""


def refused_always(cfg: "Config") -> list[str]:
    """Return what is wrong with a config, whether its run begins or is resumed."""
    return [line for rule in AT_EVERY_START for line in rule(cfg)]


def refused_at_the_beginning(cfg: "Config") -> list[str]:
    """Return what a run may not begin with, and is only warned of at a resume."""
    return [f"{line} (a rule since version {version})" for version, rule in WHEN_A_RUN_BEGINS for line in rule(cfg)]


def _mixing(cfg: "Config") -> str | None:
    """Return the key that has images mixed, if any."""
    return next((name for name in ("mixup", "cutmix") if getattr(cfg.augment, name)), None)
