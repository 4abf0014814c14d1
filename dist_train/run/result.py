"""``result.json``: the state of a run; and the file that says why a start was refused."""

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from dist_train.errors import ErrorKind
from dist_train.run.folder import RunDir
from dist_train.system.files import FULL, overwrite_json, read_json, write_json
from dist_train.system.foreign_text import printable

log = logging.getLogger(__name__)

START_NAME = "DIST_TRAIN_START"
"""The environment variable in which a supervisor passes the name of a start to its ranks."""

EXCHANGE = "DIST_TRAIN_EXCHANGE"
"""The environment variable by which a supervisor says that it can start the run on other nodes."""

Status = Literal["running", "stopped", "done", "failed"]


@dataclass
class Result:
    """The state of a run, for people, launchers and ``compare``.

    Attributes:
        status: of the last attempt.
        attempt: its number, from 1.
        step, total_steps: optimizer steps done, and of the whole run.
        best, last: rows of validation metrics with their ``step``.
        weights: which weights gave them: the raw ones, or their moving average.
        wall_s: seconds of this attempt.
        images_per_s: of the last attempt that did a step.
        data_wait: share of that attempt's time spent waiting for data, 0 to 1.
        advice: what to change if ``data_wait`` is high.
        error, message: why the run failed; ``message`` alone: why it was stopped, or why early stopping ended it.
        next_micro_batch: after out of memory with `train.micro_batch: auto`: images per forward pass and rank from now on.
        paused: whether it stopped at ``train.pause_epoch``: only a start with another value goes on.
        updated: local time at which the file was written.
        folder: the run folder; not in the file.
    """

    status: Status = "running"
    attempt: int = 1
    step: int = 0
    total_steps: int = 0
    best: dict[str, float] | None = None
    last: dict[str, float] | None = None
    weights: Literal["ema", "raw"] = "raw"
    wall_s: float = 0.0
    images_per_s: float | None = None
    data_wait: float | None = None
    advice: str | None = None
    error: ErrorKind | None = None
    message: str | None = None
    next_micro_batch: int | None = None
    paused: bool = False
    updated: str = field(default_factory=lambda: now())
    folder: Path | None = None


def write_result(run: RunDir, result: Result) -> None:
    """Replace ``result.json`` and set ``updated``.

    On a full disk the new content is written over the old one, for which there is room: a run must say why it ended.
    """
    result.updated = now()
    content = {key: value for key, value in asdict(result).items() if key != "folder"}
    try:
        write_json(run.result, content, durable=result.status != "running")
    except OSError as error:
        if error.errno not in FULL or not run.result.is_file():
            raise
        overwrite_json(run.result, content)


def progress_of(known: dict[str, Any]) -> dict[str, Any]:
    """Return what the content of ``result.json`` says of how far the run is."""
    return {key: known[key] for key in ("attempt", "step", "total_steps", "best", "last", "weights") if key in known}


def read_result(run: RunDir) -> dict[str, Any]:
    """Return the content of ``result.json``: the fields of ``Result`` that it has; empty if the file is missing or damaged.

    A field with another type of value is left out, with a warning: a run starts again whatever lies there.
    """
    known: dict[str, Any] = {key: value for key, value in read_json(run.result, default={}).items() if key in KINDS}
    wrong = tuple(key for key, value in known.items() if not KINDS[key](value))
    if wrong:
        _warn_once(run.result, wrong)
    return {key: value for key, value in known.items() if key not in wrong}


@cache
def _warn_once(path: Path, wrong: tuple[str, ...]) -> None:
    log.warning("%s: the values of %s are of the wrong kind and are ignored", printable(path), ", ".join(wrong))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < LARGEST)


def _is_scores(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) > MOST_SCORES:
        return False
    return all(len(name) <= LONGEST_NAME and (number is None or _is_number(number)) for name, number in value.items())


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _or_null(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or kind(value)


def _one_of(values: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in values


LARGEST = 1 << 63
MOST_SCORES, LONGEST_NAME = 1000, 200
KINDS: dict[str, Callable[[Any], bool]] = {
    "status": _one_of(get_args(Status)),
    "attempt": _is_count,
    "step": _is_count,
    "total_steps": _is_count,
    "best": _or_null(_is_scores),
    "last": _or_null(_is_scores),
    "weights": _one_of(("ema", "raw")),
    "wall_s": _is_number,
    "images_per_s": _or_null(_is_number),
    "data_wait": _or_null(_is_number),
    "advice": _or_null(_is_text),
    "error": _or_null(_one_of(get_args(ErrorKind))),
    "message": _or_null(_is_text),
    "next_micro_batch": _or_null(_is_count),
    "paused": lambda value: isinstance(value, bool),
    "updated": _is_text,
}
"""What a field may hold."""


def load_result(run: RunDir) -> Result:
    """Return ``result.json`` as a ``Result``, without fields that only another version knows."""
    known = read_result(run)
    scores = {key: _numbers(known[key]) for key in ("best", "last") if known.get(key)}
    return Result(**known | scores | {"folder": run.path})


def _numbers(scores: dict[str, float | None]) -> dict[str, float]:
    """Return the scores with NaN where JSON has null."""
    return {name: math.nan if score is None else score for name, score in scores.items()}


def write_refusal(run: RunDir, error: ErrorKind, message: str) -> None:
    """Write for the supervisor, if there is one, why this start was refused. ``result.json`` stays: the run is not ours."""
    if START_NAME in os.environ:
        start = os.environ[START_NAME]
        write_json(run.refusal, {"start": start, "status": "failed", "error": error, "message": message})


def read_refusal(run: RunDir, start: str) -> dict[str, Any]:
    """Return ``status``, ``error`` and ``message`` of a refused start; empty if it was not refused."""
    refusal: dict[str, Any] = read_json(run.refusal, default={})
    return refusal if refusal.get("start") == start else {}


def now() -> str:
    """Return the local time with its UTC offset, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
