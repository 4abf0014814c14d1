"""Targets as short texts, as the loss gets them: ``daisy``, ``0.7 daisy + 0.3 rose``."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dist_train.config.choice_table import Task
from dist_train.system.foreign_text import printable

MOST = 3
"""Outputs that a caption names."""
LETTERS = 18
"""Of the name of an output."""


def caption(task: Task, classes: Sequence[str], target: Any) -> str:
    """Return the text of one target.

    Args:
        target: a class number, int64 []; or float [K]: shares of classes after mixing, labels, or numbers.
    """
    target = target.cpu()
    names = [printable(name, LETTERS) for name in classes]
    if task == "regression":
        return _joined([f"{name} {value:.4g}" for name, value in zip(names, target.tolist(), strict=True)], ", ")
    if not target.is_floating_point():
        return names[int(target)]
    smoothed = task == "classification" and len(names) > 1
    return _shares(names, target, target.min().item() if smoothed else 0.0)


def _shares(names: Sequence[str], target_K: Tensor, base: float) -> str:
    """Return the outputs above ``base``, which label smoothing gives to every output, the largest first."""
    above = [(value, name) for value, name in zip(target_K.tolist(), names, strict=True) if value > base + 1e-4]
    if not above:
        return "no label" if base == 0 else f"{base:.2g} each"
    if all(value == 1 for value, _ in above):
        return _joined([name for _, name in above], ", ")
    ordered = sorted(above, key=lambda pair: -pair[0])
    return _joined([f"{value:.2g} {name}" for value, name in ordered], " + ")


def _joined(parts: Sequence[str], between: str) -> str:
    more = f" and {len(parts) - MOST} more" if len(parts) > MOST else ""
    return between.join(parts[:MOST]) + more
