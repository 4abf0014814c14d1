"""Classification, multi-label, regression: which formats, metrics and losses go with which. No torch here."""

import difflib
import re
from typing import Literal

Task = Literal["classification", "multilabel", "regression"]
Metric = Literal["loss", "top1", "top5", "macro_f1", "map", "mae", "rmse", "r2"]

METRICS: dict[Task, tuple[Metric, ...]] = {
    "classification": ("loss", "top1", "top5", "macro_f1"),
    "multilabel": ("loss", "map", "macro_f1"),
    "regression": ("loss", "mae", "rmse", "r2"),
}
"""What an evaluation reports; shares are in percent."""

FALLING = ("loss", "mae", "rmse")
"""The metrics that should fall."""

LOSSES: dict[str, tuple[Task, ...]] = {
    "cross_entropy": ("classification",),
    "focal": ("classification",),
    "bce": ("classification", "multilabel"),
    "binary_focal": ("classification", "multilabel"),
    "soft_f1": ("classification", "multilabel"),
    "mse": ("regression",),
    "l1": ("regression",),
    "huber": ("regression",),
}
"""The tasks that each loss can learn; a loss that is not listed takes any."""

FORMATS = ("imagefolder", "tiny_imagenet", "csv", "torchvision")
CLASSES_ONLY = ("imagefolder", "tiny_imagenet", "torchvision")
CALLABLE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


def data_format(value: str) -> str:
    """``value`` if it is one of ``FORMATS`` or has the form ``package.module:callable``."""
    if value in FORMATS or CALLABLE.fullmatch(value):
        return value
    near = difflib.get_close_matches(value, FORMATS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"{value!r} must be one of {', '.join(FORMATS)}, or package.module:callable{hint}")


def disagreements(form: str, task: Task, metric: Metric, loss: str, mixing: str | None) -> list[str]:
    """One line for each key that does not go with ``data.task``.

    Args:
        mixing: the key of ``augment`` that has images mixed, if any.
    """
    lines = []
    if task != "classification" and form in CLASSES_ONLY:
        lines.append(
            f"`data.task` ({task}): `data.format` ({form}) knows one class an image; use csv, or package.module:callable"
        )
    if metric not in METRICS[task]:
        lines.append(f"`eval.metric` ({metric}) is none of a {task} task; use {_either(METRICS[task])}")
    if task not in LOSSES.get(loss, (task,)):
        fitting = [name for name, tasks in LOSSES.items() if task in tasks]
        lines.append(f"`loss.name` ({loss}) cannot learn a {task} task; use {_either(fitting)}")
    if task == "regression" and mixing:
        lines.append(
            f"`augment.{mixing}` mixes images and their labels, which says nothing of the numbers of a regression task; "
            "set it to 0"
        )
    return lines


def _either(names: tuple[str, ...] | list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
