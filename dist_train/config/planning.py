"""Compute the plan from the config, the world size and the size of the training set, by pure functions."""

from dataclasses import replace

from dist_train.config.choices import LOSSES
from dist_train.config.plan import Plan
from dist_train.config.schema import Config
from dist_train.errors import ConfigError, DataError

ROWS_PER_EPOCH, LONGEST_LOG_INTERVAL = 10, 50
"""Where `log.every_steps` is null: rows per epoch (about), and the largest number of steps between two rows.

The interval depends only on the steps per epoch, so a run that resumes on another number of ranks, or is extended, keeps it.
"""


def make_plan(cfg: Config, train_images: int, world_size: int) -> Plan:
    """Return the plan of a run.

    Args:
        train_images: number of training images.
        world_size: number of ranks.

    Returns:
        The plan; with `train.micro_batch: auto` with the largest possible micro-batch (see ``Plan.with_micro_batch``).

    Raises:
        ConfigError: the global batch cannot be divided evenly, or a key does not fit the plan.
        DataError: there are fewer images than one global batch.
    """
    train = cfg.train
    given = None if train.micro_batch == "auto" else train.micro_batch
    micro, accumulate = _split_batch(train.global_batch, given, world_size)
    steps_per_epoch = train_images // train.global_batch
    if steps_per_epoch == 0:
        raise DataError(
            f"`data.root` ({cfg.data.root}) has {train_images} training images, fewer than one "
            f"`train.global_batch` ({train.global_batch}); lower it to at most {train_images}"
        )
    if (cfg.augment.mixup or cfg.augment.cutmix) and micro % 2:
        raise ConfigError(
            f"`train.micro_batch` ({micro}) must be even with `augment.mixup` or `augment.cutmix`: images are mixed in "
            f"pairs; use a `train.global_batch` that is a multiple of {2 * world_size}, and an even micro-batch"
        )
    if LOSSES.find(cfg.loss.name).whole_batch and accumulate > 1:
        raise ConfigError(
            f"`loss.name` ({cfg.loss.name}) is computed over the whole batch, but `train.micro_batch` ({micro}) splits the "
            f"{micro * accumulate} images of a rank into {accumulate} parts; use train.micro_batch={micro * accumulate}"
        )
    total = steps_per_epoch * train.epochs
    if train.max_steps is not None:
        total = min(total, train.max_steps)
    plan = Plan(
        world_size=world_size,
        train_images=train_images,
        global_batch=train.global_batch,
        micro_batch=micro,
        accumulate=accumulate,
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        warmup_steps=round(cfg.schedule.warmup_epochs * steps_per_epoch),
        cooldown_steps=round(cfg.schedule.cooldown_epochs * steps_per_epoch),
        eval_every_steps=cfg.eval.every_steps or cfg.eval.every_epochs * steps_per_epoch,
        save_every_steps=cfg.checkpoint.every_steps or steps_per_epoch,
        log_every_steps=cfg.log.every_steps or min(LONGEST_LOG_INTERVAL, max(1, steps_per_epoch // ROWS_PER_EPOCH)),
        unfreeze_steps=_unfreeze_steps(cfg, steps_per_epoch, total),
        repeats=cfg.augment.repeats,
        pause_step=_pause_step(cfg, steps_per_epoch, total),
        mix_off_step=cfg.augment.mix_off_epoch and cfg.augment.mix_off_epoch * steps_per_epoch,
    )
    return _trial(plan, train.trial_steps) if train.trial_steps else plan


def _trial(plan: Plan, steps: int) -> Plan:
    """Return the plan of ``train.fast_dev_run``: of the same length, with an evaluation and a pause after ``steps`` steps."""
    pause = steps if steps < plan.total_steps else None
    return replace(plan, pause_step=pause, eval_every_steps=steps, log_every_steps=1)


def _pause_step(cfg: Config, steps_per_epoch: int, total_steps: int) -> int | None:
    pause = (cfg.train.pause_epoch or 0) * steps_per_epoch
    return pause if 0 < pause < total_steps else None


def _unfreeze_steps(cfg: Config, steps_per_epoch: int, total_steps: int) -> tuple[int, ...]:
    steps = {epoch: epoch * steps_per_epoch for epoch in sorted(cfg.model.unfreeze)}
    for epoch, step in steps.items():
        if step >= total_steps:
            raise ConfigError(
                f"`model.unfreeze` ({epoch}) is step {step}, but the run ends at step {total_steps}; choose an earlier epoch, "
                "or remove it"
            )
    return tuple(steps.values())


def _split_batch(global_batch: int, micro_batch: int | None, world_size: int) -> tuple[int, int]:
    """Return ``(micro_batch, accumulate)`` such that ``micro_batch * world_size * accumulate == global_batch``."""
    unit = (micro_batch or 1) * world_size
    if global_batch % unit:
        lower, upper = global_batch // unit * unit, -(-global_batch // unit) * unit
        fits = f"{lower} or {upper}" if lower else str(upper)
        product = (
            f"micro_batch x world_size ({micro_batch} x {world_size} = {unit})"
            if micro_batch
            else f"the world size ({unit})"
        )
        raise ConfigError(f"`train.global_batch` ({global_batch}) must be a multiple of {product}; use {fits}")
    micro = micro_batch or global_batch // world_size
    return micro, global_batch // (micro * world_size)
