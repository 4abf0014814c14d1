"""The learning rate of a run that is made longer or shorter: which rates would change, and how the schedule goes on.

Two plans of a run differ in their length. The plan before says which rates the finished steps had.
"""

import logging
from dataclasses import replace

from dist_train.config.plan import Plan
from dist_train.config.schema import Config
from dist_train.errors import ConfigError
from dist_train.learning.schedule import lr_factor
from dist_train.system.terminal import digits

log = logging.getLogger(__name__)

COMPARED = 1000
"""Steps at which the rates of two plans are compared: a million rates would take seconds."""


def continued(cfg: Config, plan: Plan, before: Plan, step: int, way_out: str) -> Plan:
    """Return the plan with the starts of the schedule that a run follows which has done ``step`` steps.

    Args:
        plan: by the config of this start; its schedule starts at step 0 only.
        before: by the length and the starts that the checkpoint recorded.
        way_out: how to begin another run instead, for the message.

    Raises:
        ConfigError: the run would end before ``step``, or the change of its length changes learning rates and
            ``schedule.on_extend`` does not say how.
    """
    if plan.total_steps < step:
        raise ConfigError(
            f"{_length_key(cfg, plan)} ends the run at step {plan.total_steps}, but step {step} is done; use at least "
            f"{_enough(cfg, plan, step)}, or {way_out}"
        )
    rescaled = replace(plan, schedule_starts=tuple(s for s in before.schedule_starts if s < plan.total_steps))
    if plan.total_steps == before.total_steps:
        return rescaled
    if _same_rates(cfg, before, rescaled):
        log.info("the run had %d steps and now has %d; no learning rate changes", before.total_steps, plan.total_steps)
        return rescaled
    longer = plan.total_steps > before.total_steps
    if cfg.schedule.on_extend == "rescale":
        found = rescaled
    elif cfg.schedule.on_extend == "restart" and longer:
        found = replace(plan, schedule_starts=(*before.schedule_starts, before.total_steps))
    else:
        raise ConfigError(_refusal(cfg, rescaled, before, step, longer, way_out))
    log.info(
        "the run had %d steps and now has %d (`schedule.on_extend`: %s): %s",
        *(before.total_steps, plan.total_steps, cfg.schedule.on_extend, _jump(cfg, before, found, step)),
    )
    return found


def _same_rates(cfg: Config, one: Plan, other: Plan) -> bool:
    """Return whether two plans agree in the learning rate of all steps that both have."""
    steps = min(one.total_steps, other.total_steps)
    compared = [*range(0, steps, max(1, steps // COMPARED)), steps - 1]
    return all(_rate(cfg, one, step) == _rate(cfg, other, step) for step in compared)


def _rate(cfg: Config, plan: Plan, step: int) -> float:
    return cfg.optim.lr * lr_factor(cfg.schedule, cfg.optim.lr, plan, step)


def _length_key(cfg: Config, plan: Plan) -> str:
    """Return the key that decides the length of the run, with its value, for a message."""
    if plan.total_steps < plan.steps_per_epoch * cfg.train.epochs:
        return f"`train.max_steps` ({cfg.train.max_steps})"
    return f"`train.epochs` ({cfg.train.epochs})"


def _enough(cfg: Config, plan: Plan, step: int) -> str:
    """Return the keys that must be higher so that the run reaches ``step``, with their lowest values."""
    epochs, limit = -(-step // plan.steps_per_epoch), cfg.train.max_steps
    needed = [f"train.epochs={epochs}"] if cfg.train.epochs < epochs else []
    return " ".join([*needed, f"train.max_steps={step}"] if limit is not None and limit < step else needed)


def _jump(cfg: Config, before: Plan, plan: Plan, step: int) -> str:
    last = f"the learning rate of step {step} was {digits(_rate(cfg, before, max(0, step - 1)))}"
    if step >= plan.total_steps:
        return f"{last}, and the run ends there"
    return f"{last}, that of step {step + 1} is {digits(_rate(cfg, plan, step))}"


def _refusal(cfg: Config, rescaled: Plan, before: Plan, step: int, longer: bool, way_out: str) -> str:
    """Return why another length is refused, and the ways out."""
    then, now = before.total_steps, rescaled.total_steps
    ways = f"schedule.on_extend=rescale (one schedule of {now - rescaled.schedule_starts[-1]} steps)"
    if longer:
        ways = f"schedule.on_extend=restart (the schedule again, over the {now - then} new steps) or {ways}"
    elif cfg.schedule.on_extend:
        ways += ", because restart can only make a run longer"
    return (
        f"{_length_key(cfg, rescaled)} makes the run {now} steps long, and it began with {then}: the learning rates of "
        f"`schedule.name` {cfg.schedule.name} depend on the length. With this one, {_jump(cfg, before, rescaled, step)}. "
        f"Restore the length, set {ways}, or {way_out}"
    )
