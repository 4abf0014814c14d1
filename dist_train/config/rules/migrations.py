"""Translate configs and checkpoints of older versions to the current keys.

- You rename a key, remove it or change its type: add a row to ``MIGRATIONS``. It applies to every config that is read.
- You add a key that changes the weights: add a row to ``BEFORE`` with the value that matches the code without the key. It
  applies to what a run has recorded (its ``config.yaml`` and checkpoints), where a missing key means older code. In a
  config that a user writes, a missing key means the current default.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dist_train.config.rules.old_augment import with_ops
from dist_train.config.values import set_value, value_of
from dist_train.errors import ConfigError


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Migration:
    """A key that had another name or other values in older versions.

    Attributes:
        since: the version that changed it.
        old, new: dotted keys; ``new`` is None where the key is gone, the same as ``old`` where its type changed.
        value: converts the old value. Where the name stays the same, it must return current values unchanged.
    """

    since: str
    old: str
    new: str | None
    value: Callable[[Any], Any] = _same


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "0.2.0", "model.unfreeze_epoch", "model.unfreeze", lambda epoch: {} if epoch is None else {str(epoch): ["all"]}
    ),
    Migration("0.2.0", "train.clip_grad", "train.clip"),
)

BEFORE: dict[str, Any] = {
    "augment.cutmix_minmax": None,
    "augment.erasing_count": 1,
    "augment.mix_mode": "batch",
    "augment.mix_off_epoch": None,
    "augment.ops": [],
    "augment.repeats": 1,
    "data.csv.group": None,
    "data.csv.weight": None,
    "data.exclude": None,
    "data.fast_decode": False,
    "data.fold": None,
    "data.sampling": None,
    "data.shots": None,
    "data.train_fraction": None,
    "augment.size_schedule": None,
    "data.bits": 8,
    "data.channels": 3,
    "distributed.gradient_dtype": "fp32",
    "distributed.strategy": "auto",
    "eval.crop": "auto",
    "eval.crop_pct": "published",
    "eval.interpolation": "bicubic",
    "eval.size": "train",
    "loss.class_balance": None,
    "loss.distill": None,
    "loss.logit_adjustment": None,
    "loss.objective": None,
    "loss.objective_options": {},
    "model.head.init": "timm",
    "model.lora": None,
    "model.options": {},
    "optim.options": {},
    "optim.lr_base": None,
    "optim.lr_scale": {},
    "optim.layer_decay_min": 0.0,
    "schedule.options": {},
    "train.cached_features": False,
    "schedule.warmup_lr": None,
    "schedule.cooldown_epochs": 0.0,
    "schedule.restarts": None,
    "schedule.power": 0.9,
    "schedule.decay.share": 0.2,
    "schedule.decay.shape": "1-sqrt",
}
"""Keys added after 0.1.0 that change the weights -> the value that matches the code without the key."""


def migrated(tree: dict[str, Any], of_a_run: bool = False, of_one_file: bool = False) -> dict[str, Any]:
    """Return a config of any version, as nested dicts, with the current keys.

    Args:
        of_a_run: a run has recorded this config: a missing key gets its value in ``BEFORE``.
        of_one_file: another file will be laid over it: keys that become entries of one list stay, so that they can be merged.

    Raises:
        ConfigError: a key is given under both its old and its new name.
    """
    tree = copy.deepcopy(tree)
    for step in MIGRATIONS:
        _apply(step, tree)
    if not of_one_file:
        with_ops(tree)
    if of_a_run:
        for key, value in BEFORE.items():
            _fill(tree, key, value)
    return tree


def _apply(step: Migration, tree: dict[str, Any]) -> None:
    for value in found(tree, step.old):
        _remove(tree, step.old)
        if step.new is None:
            continue
        if found(tree, step.new):
            raise ConfigError(
                f"`{step.old}` is called `{step.new}` since {step.since}, but both are given; remove `{step.old}`"
            )
        set_value(tree, step.new, step.value(value))


def _fill(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a missing key, unless its section is switched off."""
    parent, _, _ = key.rpartition(".")
    if not found(tree, key) and all(isinstance(section, dict) for section in found(tree, parent)):
        set_value(tree, key, value)


def found(tree: Any, key: str) -> list[Any]:
    """Return the value of a dotted key as a list of one; an empty list if the key is missing."""
    try:
        return [value_of(tree, key)]
    except KeyError:
        return []


def _remove(tree: dict[str, Any], key: str) -> None:
    parent, _, leaf = key.rpartition(".")
    del value_of(tree, parent)[leaf]
