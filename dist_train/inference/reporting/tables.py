"""The tables of the page, as plain values."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist_train.config.files.printed import changes
from dist_train.config.schema import Config
from dist_train.config.values import flat
from dist_train.evaluation.reports import class_table, confusion, worst_first
from dist_train.inference.reporting.gather import Gathered, Judged
from dist_train.system.terminal import digits

MATRIX_CLASSES = 40
"""With more classes the page shows the most confused pairs, without a matrix."""
MOST_PAIRS, MOST_CLASSES = 20, 1000

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """``open_rows`` are shown, ``rows`` after them folded; ``left_out`` is the number of those that the page has not."""

    columns: list[str]
    rows: list[list[str]]
    open_rows: int
    left_out: int = 0


@dataclass(frozen=True)
class Matrix:
    """Images by label (row) and prediction (column), and the share of the label's images, 0 to 1."""

    names: list[str]
    counts: list[list[int]]
    shares: list[list[float]]


def headline(run: Gathered) -> list[tuple[str, str, str]]:
    """Return name, value and a remark for each of the numbers that come first."""
    result, metric = run.result, run.config.eval.metric
    best, last = result.best or {}, result.last or {}
    cards = [
        (f"best {metric}", _shown(best.get(metric)), f"step {_shown(best.get('step'))}, {result.weights} weights"),
        (f"last {metric}", _shown(last.get(metric)), f"step {_shown(last.get('step'))}"),
        ("status", result.status, result.message or f"step {result.step} of {result.total_steps}"),
        ("training images per second", _shown(result.images_per_s), "of the last start"),
        ("waiting for data", _share(result.data_wait), "share of the training time"),
        ("time", _hours(result.wall_s), f"of start {result.attempt}" if result.attempt > 1 else "of the only start"),
    ]
    return [card for card in cards if card[1] != "–"]


def scores(run: Gathered) -> Table | None:
    """Return the validation scores of the best and of the last evaluation; None if there are none."""
    best, last = run.result.best or {}, run.result.last or {}
    names = [name for name in dict.fromkeys([*best, *last]) if name not in ("step", "epoch", "seconds")]
    rows = [[name, _shown(best.get(name)), _shown(last.get(name))] for name in names]
    return Table(["", "best", "last"], rows, len(rows)) if rows else None


def changed_settings(cfg: Config) -> Pairs:
    """Return the keys of the config that differ from the defaults, with their values."""
    return [(key, _value(value)) for key, value in flat(changes(cfg))]


def all_settings(cfg: Config) -> Pairs:
    """Return every key of the config with its value."""
    return [(key, _value(value)) for key, value in flat(cfg.model_dump(mode="json"))]


def facts(run: Gathered) -> Pairs:
    """Return what else a reader asks for: where and with what the run was trained, and on how many images."""
    start = run.attempts[-1] if run.attempts else {}
    git, hardware, versions = (_mapping(start.get(key)) for key in ("git", "hardware", "versions"))
    hosts = start.get("hosts")
    found = {
        "folder": str(run.folder.path.resolve()),
        "starts": str(len(run.attempts)),
        "last start": start.get("started"),
        "ranks": start.get("world_size"),
        "hosts": ", ".join(dict.fromkeys(map(str, hosts))) if isinstance(hosts, list) else None,
        **{f"hardware: {key}": value for key, value in hardware.items()},
        "commit": f"{git['commit']}{' (with changes)' if git.get('dirty') else ''}" if git.get("commit") else None,
        **{f"version of {name}": version for name, version in versions.items()},
        "validation images": f"{len(run.judged.labels):,}" if run.judged else None,
        "outputs": f"{len(run.classes):,}" if run.classes else None,
    }
    return [(key, _value(value)) for key, value in found.items() if value not in (None, "", [])]


def per_class(run: Gathered, judged: Judged) -> Table | None:
    """Return the metrics of each class or output, the worst first; None if the labels alone do not give them."""
    table = worst_first(class_table(judged.outcome, run.classes))
    columns = [name for name in table[0] if name != "class"]
    rows = [[str(row["class"]), *(_shown(row[column]) for column in columns)] for row in table[:MOST_CLASSES]]
    return Table(
        ["class" if run.config.data.task != "regression" else "output", *columns], rows, 30, len(table) - len(rows)
    )


def matrix(run: Gathered, judged: Judged) -> Matrix | None:
    """Return the confusion matrix; None if there are too many classes, or the task is another one."""
    if judged.outcome.classes is None or len(run.classes) > MATRIX_CLASSES:
        return None
    counts = confusion(judged.outcome, len(run.classes))
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    return Matrix(run.classes, counts.tolist(), shares.round(3).tolist())


def confused_pairs(run: Gathered, judged: Judged) -> Table | None:
    """Return the pairs of label and wrong prediction with the most images; None without any."""
    if judged.outcome.classes is None:
        return None
    labels_N, pred_N, classes = judged.labels, judged.outcome.classes.numpy(), len(run.classes)
    wrong = labels_N != pred_N
    pairs, counts = np.unique(labels_N[wrong] * classes + pred_N[wrong], return_counts=True)
    images_K = np.bincount(labels_N, minlength=classes)
    order = np.argsort(-counts, kind="stable")
    rows = [
        [run.classes[label], run.classes[other], str(count), _share(count / images_K[label])]
        for label, other, count in (
            (*divmod(int(pairs[place]), classes), int(counts[place])) for place in order[:MOST_PAIRS]
        )
    ]
    columns = ["label", "predicted", "images", "of the label's images"]
    return Table(columns, rows, len(rows), len(order) - len(rows)) if rows else None


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _shown(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else digits(value)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g} %"


def _hours(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
