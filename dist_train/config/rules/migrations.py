"""What configs and checkpoints of older versions mean today.

- A key was renamed, re-typed or removed: a row in ``MIGRATIONS``. It counts for every config that is read.
- A key was added that changes the weights: a row in ``BEFORE``, the value that the code before it behaved as. It counts
  for what a run has recorded (its ``config.yaml`` and checkpoints), where a missing key means older code. In a config
  that a user writes, a missing key means today's default.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dist_train.config.values import set_value, value_of
from dist_train.errors import ConfigError


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Migration:
    """A key that older versions knew under another name, or with other values.

    Attributes:
        since: the version that changed it.
        old, new: dotted keys; ``new`` is None where the key is gone, the same as ``old`` where its type changed.
        value: from the old value to today's. Where the name is the same, it must return today's values as they are.
    """

    since: str
    old: str
    new: str | None
    value: Callable[[Any], Any] = _same


MIGRATIONS: tuple[Migration, ...] = ()

BEFORE: dict[str, Any] = {
    "augment.transforms": [],
    "eval.crop": "auto",
    "loss.objective": None,
    "loss.objective_options": {},
    "model.head.init": "timm",
}
"""Keys that came after 0.1.0 and change the weights -> the value that the code before them behaved as."""


def migrated(tree: dict[str, Any], of_a_run: bool = False) -> dict[str, Any]:
    """Return a config of any version, as nested tables, with today's keys.

    Args:
        of_a_run: a run has recorded it: keys that it lacks mean the behaviour of then.

    Raises:
        ConfigError: a key is given under its old and its new name.
    """
    tree = copy.deepcopy(tree)
    for step in MIGRATIONS:
        _apply(step, tree)
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
                f"`{step.old}` is called `{step.new}` since {step.since}, and both are given; remove `{step.old}`"
            )
        set_value(tree, step.new, step.value(value))


def _fill(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a key that is missing, but for one in a section that is switched off."""
    parent, _, _ = key.rpartition(".")
    if not found(tree, key) and all(isinstance(section, dict) for section in found(tree, parent)):
        set_value(tree, key, value)


def found(tree: Any, key: str) -> list[Any]:
    """Return the value of a dotted key, if it is there."""
    try:
        return [value_of(tree, key)]
    except KeyError:
        return []


def _remove(tree: dict[str, Any], key: str) -> None:
    parent, _, leaf = key.rpartition(".")
    del value_of(tree, parent)[leaf]
