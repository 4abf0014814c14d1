"""The learning rate as a function of the step: one function for each ``schedule.name``.

Each function takes a ``Moment`` and the keys that its row in ``config/choices.py`` lists. It returns a factor for
``optim.lr``.
"""

import math
from dataclasses import dataclass

from dist_train.config.choices import SCHEDULES
from dist_train.config.plan import Plan
from dist_train.config.sections.schedule import ScheduleConfig
from dist_train.config.user_code import function_of


@dataclass(frozen=True)
class Moment:
    """A step of the run (the first is 0) and its position in the run.

    Where ``schedule.on_extend: restart`` has started the schedule again, both count from there.

    Attributes:
        epoch: epochs since the start of the run.
        done: the share of the steps after the warm-up that are done, 0 to 1.
    """

    step: int
    total_steps: int
    epoch: float
    done: float


def lr_factor(schedule: ScheduleConfig, base_lr: float, plan: Plan, step: int) -> float:
    """Return the learning rate of optimizer step ``step`` (the first is 0), as a multiple of ``optim.lr``.

    The warm-up is linear and reaches 1 at its last step. Where the schedule was started again, steps count from there.
    """
    part = plan.schedule_part(step)
    step, total = step - part.start, len(part)
    warmup = min(plan.warmup_steps, total)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    options = SCHEDULES.options(schedule.name, schedule)
    if "min_lr" in options:
        options["min_lr"] /= base_lr
    moment = Moment(step, total, plan.epoch(step), done)
    return float(function_of(SCHEDULES, schedule.name)(moment, **options))


def constant(_now: Moment) -> float:
    """Return 1 at every step."""
    return 1.0


def cosine(now: Moment, *, min_lr: float) -> float:
    """Decay as half a cosine, from 1 to ``min_lr`` at the end of the run (Loshchilov & Hutter, 2017)."""
    return min_lr + (1 - min_lr) * 0.5 * (1 + math.cos(math.pi * now.done))


def linear(now: Moment, *, min_lr: float) -> float:
    """Decay linearly, from 1 to ``min_lr`` at the end of the run."""
    return min_lr + (1 - min_lr) * (1 - now.done)


def step(now: Moment, *, gamma: float, step_epochs: float, min_lr: float) -> float:
    """Multiply by ``gamma`` once every ``step_epochs`` epochs; never go below ``min_lr``."""
    steps = math.floor(now.epoch / step_epochs + 1e-9)  # because 0.3 // 0.1 is 2
    return max(min_lr, math.pow(gamma, steps))


def multistep(now: Moment, *, gamma: float, milestones: tuple[float, ...], min_lr: float) -> float:
    """Multiply by ``gamma`` at each of the ``milestones`` (in epochs); never go below ``min_lr``."""
    return max(min_lr, math.pow(gamma, sum(now.epoch >= milestone for milestone in milestones)))


def exponential(now: Moment, *, gamma: float, min_lr: float) -> float:
    """Return ``gamma`` to the power of the epochs since the start of the run; never go below ``min_lr``."""
    return max(min_lr, math.pow(gamma, now.epoch))


def onecycle(now: Moment, *, pct_start: float, min_lr: float) -> float:
    """Rise and fall once (Smith & Topin, 2018), along cosines and with the constants of torch's ``OneCycleLR``.

    The factor rises from 1/25 to 1 in the first ``pct_start`` (a share) of the steps, then falls to 1/25 * 1e-4; it is
    never below ``min_lr``.
    """
    top = pct_start * now.total_steps - 1
    start, end = 1 / 25, 1 / 25 * 1e-4
    if now.step < top:
        return max(min_lr, _cosine_between(start, 1, now.step / top))
    return max(min_lr, _cosine_between(1, end, (now.step - top) / (now.total_steps - 1 - top)))


def _cosine_between(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))
