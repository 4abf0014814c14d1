"""The learning rate as a function of the step: one function for each ``schedule.name``.

Each function takes a ``Moment`` and the keys that its row in ``config/choices.py`` lists. It returns a factor for
``optim.lr``.
"""

import math
from dataclasses import dataclass

from dist_train.config.choices import SCHEDULES
from dist_train.config.plan import Plan
from dist_train.config.sections.schedule import DecayConfig, RestartsConfig, ScheduleConfig
from dist_train.config.user_code import function_of
from dist_train.errors import ConfigError


@dataclass(frozen=True)
class Moment:
    """A step of the run (the first is 0) and its position in the run.

    Where ``schedule.on_extend: restart`` has started the schedule again, both count from there.

    Attributes:
        epoch: epochs since the start of the run.
        done: the share of the steps between warm-up and cooldown that are done, 0 to 1; with ``schedule.restarts``, of the
            cycle.
        peak: the highest factor; below 1 in later cycles with ``schedule.restarts.peak_factor``.
    """

    step: int
    total_steps: int
    epoch: float
    done: float
    peak: float = 1.0


def lr_factor(schedule: ScheduleConfig, base_lr: float, plan: Plan, step: int) -> float:
    """Return the learning rate of optimizer step ``step`` (the first is 0), as a multiple of ``optim.lr``.

    Steps count from where the schedule was started (again). The warm-up is linear: it reaches 1 at its last step, or, if
    ``schedule.warmup_lr`` is set, begins with that rate and reaches 1 one step later, as timm's and torch's do.

    Raises:
        ConfigError: the user's function fails, or returns something else than a finite number of at least 0.
    """
    part = plan.schedule_part(step)
    since, total = step - part.start, len(part)
    warmup = min(plan.warmup_steps, total)
    if since < warmup:
        return _warm_up(schedule.warmup_lr, base_lr, since, warmup)
    cooldown = min(plan.cooldown_steps, total - warmup)
    done, peak = _way_down(schedule.restarts, plan, since - warmup, total - warmup - cooldown)
    moment = Moment(since, total, plan.epoch(since), done, peak)
    options = SCHEDULES.options(schedule.name, schedule)
    if "min_lr" in options:
        options["min_lr"] /= base_lr
    if schedule.name not in SCHEDULES.rows:
        return _own(schedule, moment)
    passed = {key: value for key, value in options.items() if key not in ("cooldown_epochs", "restarts")}
    return float(function_of(SCHEDULES, schedule.name)(moment, **passed))


def _warm_up(first: float | None, base_lr: float, step: int, steps: int) -> float:
    """Return the factor of step ``step`` of ``steps`` steps of warm-up."""
    if first is None:
        return (step + 1) / steps
    return first / base_lr + (1 - first / base_lr) * step / steps


def _way_down(restarts: RestartsConfig | None, plan: Plan, step: int, steps: int) -> tuple[float, float]:
    """Return ``done`` and ``peak`` of a ``Moment``.

    Args:
        step: since the warm-up.
        steps: between warm-up and cooldown.
    """
    if restarts is None or step >= steps:
        return min(1.0, step / max(1, steps)), 1.0
    length: float = max(1, round(restarts.every_epochs * plan.steps_per_epoch))
    if restarts.length_factor == 1:
        return step % length / length, restarts.peak_factor ** (step // length)
    cycle, left = 0, float(step)
    while left >= length:
        left, length, cycle = left - length, length * restarts.length_factor, cycle + 1
    return left / length, restarts.peak_factor**cycle


def _own(schedule: ScheduleConfig, moment: Moment) -> float:
    """Return the factor of the user's function.

    Raises:
        ConfigError: it fails, or its result is negative, infinite or NaN.
    """
    key = f"`schedule.name` ({schedule.name})"
    function = function_of(SCHEDULES, schedule.name)
    try:
        factor = float(function(moment, **schedule.options))
    except Exception as error:  # whatever the user's code raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{key} fails at step {moment.step}: {reason}") from error
    if not 0 <= factor < math.inf:
        raise ConfigError(
            f"{key} returns {factor} at step {moment.step}; it must return a finite factor of `optim.lr`, at least 0"
        )
    return factor


CHECKED = 1000
"""Steps at which a function of the user's is called before the run: at a million steps it would take seconds."""


def refuse_changing(schedule: ScheduleConfig, base_lr: float, plan: Plan) -> None:
    """Call a schedule of the user's twice, in two orders: a resumed run must compute the same rates.

    Raises:
        ConfigError: it returns another value the second time, or no factor.
    """
    if schedule.name in SCHEDULES.rows:
        return
    steps = [*range(0, plan.total_steps, max(1, plan.total_steps // CHECKED)), plan.total_steps - 1]
    once = {step: lr_factor(schedule, base_lr, plan, step) for step in steps}
    for step in reversed(steps):
        again = lr_factor(schedule, base_lr, plan, step)
        if again != once[step]:
            raise ConfigError(
                f"`schedule.name` ({schedule.name}) returns {once[step]} for step {step}, and {again} when it is called again: a "
                "resumed run would train with other rates; let it depend on its arguments only"
            )


def constant(_now: Moment) -> float:
    """Return 1 at every step."""
    return 1.0


def cosine(now: Moment, *, min_lr: float) -> float:
    """Decay as half a cosine, from ``now.peak`` to ``min_lr`` (Loshchilov & Hutter, 2017: with its restarts, SGDR)."""
    return _between(now, min_lr, 0.5 * (1 + math.cos(math.pi * now.done)))


def linear(now: Moment, *, min_lr: float) -> float:
    """Decay linearly, from ``now.peak`` to ``min_lr``."""
    return _between(now, min_lr, 1 - now.done)


def poly(now: Moment, *, min_lr: float, power: float) -> float:
    """Decay as a power of what is left, from ``now.peak`` to ``min_lr`` (Chen et al., 2018: DeepLab)."""
    return _between(now, min_lr, math.pow(1 - now.done, power))


def wsd(now: Moment, *, min_lr: float, decay: DecayConfig) -> float:
    """Stay at 1, then decay to ``min_lr`` in the last ``decay.share`` (Hu et al., 2024: MiniCPM; 1-sqrt: Hägele et al., 2024)."""
    fallen = min(1.0, max(0.0, now.done - (1 - decay.share)) / decay.share)
    match decay.shape:
        case "linear":
            left = 1 - fallen
        case "cosine":
            left = 0.5 * (1 + math.cos(math.pi * fallen))
        case _:
            left = 1 - math.sqrt(fallen)
    return _between(now, min_lr, left)


def _between(now: Moment, min_lr: float, share: float) -> float:
    """Return the factor at ``share`` of the way from ``min_lr`` up to ``now.peak``, which may have fallen below ``min_lr``."""
    return min_lr + (max(now.peak, min_lr) - min_lr) * share


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
