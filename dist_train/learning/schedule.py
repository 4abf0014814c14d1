"""The learning rate as a function of the step."""

import math

from dist_train.config.plan import Plan
from dist_train.config.sections.schedule import ScheduleConfig


def lr_factor(schedule: ScheduleConfig, base_lr: float, plan: Plan, step: int) -> float:
    """Learning rate of optimizer step ``step`` (the first is 0), as a multiple of ``optim.lr``.

    Warm-up is linear and reaches 1 at its last step. Then cosine (Loshchilov & Hutter, 2017) and linear go from 1
    to ``min_lr / base_lr`` at the end of the run; step, multistep and exponential count epochs from the start of
    the run; onecycle is Smith & Topin's (2018) with torch's constants, in cosine pieces.
    """
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    done = (step - plan.warmup_steps) / max(1, plan.total_steps - plan.warmup_steps)
    floor = schedule.min_lr / base_lr
    epoch = plan.epoch(step)
    match schedule.name:
        case "constant":
            return 1.0
        case "cosine":
            return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            return floor + (1 - floor) * (1 - done)
        case "step":
            steps = math.floor(epoch / schedule.step_epochs + 1e-9)  # 0.3 // 0.1 is 2
            return max(floor, math.pow(schedule.gamma, steps))
        case "multistep":
            return max(floor, math.pow(schedule.gamma, sum(epoch >= milestone for milestone in schedule.milestones)))
        case "exponential":
            return max(floor, math.pow(schedule.gamma, epoch))
        case "onecycle":
            return max(floor, _one_cycle(step, plan.total_steps, schedule.pct_start))


def _one_cycle(step: int, total_steps: int, pct_start: float) -> float:
    """From 1/25 up to 1 in the share ``pct_start`` of the steps, then down to 1/25 of 1e-4."""
    top = pct_start * total_steps - 1
    start, end = 1 / 25, 1 / 25 * 1e-4
    if step < top:
        return _cosine_between(start, 1, step / top)
    return _cosine_between(1, end, (step - top) / (total_steps - 1 - top))


def _cosine_between(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))
