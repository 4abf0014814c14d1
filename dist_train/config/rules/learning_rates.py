"""Learning rates and lengths of the schedule that do not fit together."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dist_train.config.schema import Config


def rising_rate(cfg: "Config") -> Iterator[str]:
    """Refuse a floor above the learning rate."""
    if cfg.schedule.min_lr > cfg.optim.lr:
        yield (
            f"`schedule.min_lr` ({cfg.schedule.min_lr:g}) is more than `optim.lr` ({cfg.optim.lr:g}): the learning rate would "
            "rise; use a smaller value"
        )


def endless_warm_up(cfg: "Config") -> Iterator[str]:
    """Refuse a warm-up that is longer than the run."""
    if cfg.schedule.warmup_epochs > cfg.train.epochs:
        yield (
            f"`schedule.warmup_epochs` ({cfg.schedule.warmup_epochs:g}) is more than `train.epochs` ({cfg.train.epochs}): the "
            "warm-up would never end; use fewer epochs"
        )


def two_rates(cfg: "Config") -> Iterator[str]:
    """Refuse two learning rates that differ."""
    if cfg.optim.lr_base is None:
        return
    scaled = cfg.optim.lr_base.at(cfg.train.global_batch)
    if not math.isclose(scaled, cfg.optim.lr, rel_tol=1e-9):
        yield (
            f"`optim.lr` ({cfg.optim.lr:g}) is given, and `optim.lr_base` makes it {scaled:g} at `train.global_batch` "
            f"{cfg.train.global_batch}; set one of them to null"
        )


def warm_up_from_above(cfg: "Config") -> Iterator[str]:
    """Refuse a warm-up that begins above the learning rate."""
    if cfg.schedule.warmup_lr is not None and cfg.schedule.warmup_lr > cfg.optim.lr:
        yield (
            f"`schedule.warmup_lr` ({cfg.schedule.warmup_lr:g}) is more than `optim.lr` ({cfg.optim.lr:g}): the learning rate "
            "would fall in the warm-up; use a smaller value"
        )


def nothing_between(cfg: "Config") -> Iterator[str]:
    """Refuse a warm-up and a cooldown that leave no epoch for the schedule."""
    warmup, cooldown, epochs = cfg.schedule.warmup_epochs, cfg.schedule.cooldown_epochs, cfg.train.epochs
    if cooldown and warmup + cooldown >= epochs:
        yield (
            f"`schedule.cooldown_epochs` ({cooldown:g}) and `schedule.warmup_epochs` ({warmup:g}) take all of `train.epochs` "
            f"({epochs}): no epoch is left for the schedule; use fewer epochs"
        )
