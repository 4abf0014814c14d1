"""``result.json``: how a run stands, and why a start was refused."""

import os
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from dist_train.errors import ErrorKind
from dist_train.run.folder import RunDir
from dist_train.system.files import read_json, write_json

Status = Literal["running", "stopped", "done", "failed"]


@dataclass
class Result:
    """``result.json``: how the run stands, for people, launchers and ``compare``.

    ``best`` and ``last`` are rows of validation metrics with their ``step``, of the raw weights or of their moving
    average as ``weights`` says; ``wall_s`` is of this attempt; ``images_per_s`` is of the last one that made a step, and so is
    ``data_wait``, the share of time spent on waiting for data, with ``advice`` where it is too much; ``error`` and
    ``message`` say why it failed. ``folder`` is the run's, where the result was read; the file does not hold it.
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
    updated: str = field(default_factory=lambda: now())
    folder: Path | None = None


def write_result(run: RunDir, result: Result) -> None:
    """Replace ``result.json``, stamped with the current time."""
    result.updated = now()
    content = {key: value for key, value in asdict(result).items() if key != "folder"}
    write_json(run.result, content, durable=result.status != "running")


def read_result(run: RunDir) -> dict[str, Any]:
    """The content of ``result.json``; empty if there is none yet."""
    result: dict[str, Any] = read_json(run.result, default={})
    return result


def load_result(run: RunDir) -> Result:
    """``result.json`` as a ``Result``; what another version has written into it beside is left out."""
    names = {field.name for field in fields(Result)}
    known = {key: value for key, value in read_result(run).items() if key in names}
    return Result(**known | {"folder": run.path})


START_NAME = "DIST_TRAIN_START"
"""The variable by which a supervisor names a start to its ranks."""


def write_refusal(run: RunDir, error: ErrorKind, message: str) -> None:
    """Tell this start's supervisor, if it has one, why it was turned away; ``result.json`` is not ours to write."""
    if START_NAME in os.environ:
        start = os.environ[START_NAME]
        write_json(run.refusal, {"start": start, "status": "failed", "error": error, "message": message})


def read_refusal(run: RunDir, start: str) -> dict[str, Any]:
    """What a result would say of a start that was turned away; empty if it was not."""
    refusal: dict[str, Any] = read_json(run.refusal, default={})
    return refusal if refusal.get("start") == start else {}


def now() -> str:
    """Local time with its UTC offset, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
