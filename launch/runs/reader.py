"""Read settings and results from run folders, also from those of live runs and killed runs."""

import csv
import io
import math
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from dist_train.config.choices import falls
from dist_train.config.yaml_text import MOST_TEXT, TooLarge, load_yaml
from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import LARGEST, LONGEST_NAME, Row, read_rows
from dist_train.run.result import read_result
from dist_train.system.files import read_bounded, read_json
from dist_train.system.foreign_text import csv_cell
from dist_train.system.terminal import written_whole

SILENT_S = 600.0
_NOT_SETTINGS = ("run.name", "run.output_dir", "run.resume", "log.", "distributed.timeout_s")
"""Keys that may differ between two runs of the same experiment."""
_ABSENT = object()
MOST_BYTES, MOST_NAMES, MOST_SPLITS = 256 << 20, 1000, 20
"""Limits of a run folder, which may be somebody else's: bytes of metrics.jsonl, names of settings or metrics, splits."""


class DamagedRun(Exception):
    """A run folder cannot be compared; the message says why."""


@dataclass(eq=False)
class Run:
    """One run with all its attempts. ``settings`` and ``results`` map a dotted key to a plain value."""

    name: str
    path: Path
    settings: dict[str, Any]
    results: dict[str, Any]
    rows: dict[str, list[Row]]
    """Split -> its rows of metrics in the order of steps, each step once."""
    metric: str
    """``eval.metric``, which chose the best weights."""


def read_run(path: Path) -> Run:
    """Return the run in a folder.

    Raises:
        DamagedRun: a file of the run is missing or cannot be read.
    """
    folder = RunDir(path)
    try:
        settings = _settings(folder)
        rows = _rows(folder.metrics)
        if folder.result.exists() and not read_result(folder):
            raise DamagedRun("result.json cannot be read")
        metric = str(settings.get("eval.metric", "top1"))[:LONGEST_NAME]
        return Run(path.name, path, settings, _results(folder, rows, settings, metric), rows, metric)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # JSON, but not a run's
        raise DamagedRun(f"its files have unexpected content ({type(error).__name__}: {error!s:.200})") from None
    except (OSError, RecursionError, MemoryError) as error:
        raise DamagedRun(f"its files cannot be read ({type(error).__name__}: {error!s:.200})") from None


def differing_keys(runs: list[Run]) -> list[str]:
    """Return the settings that are not the same in all runs, in the order of the config file."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    keys = {key: None for key in keys if not key.startswith(_NOT_SETTINGS)}
    return [key for key in keys if len({repr(run.settings.get(key, _ABSENT)) for run in runs}) > 1]


def result_keys(runs: list[Run]) -> list[str]:
    """Return the names of all results: best and last metrics first."""
    keys = dict.fromkeys(key for run in runs for key in run.results)
    metrics = [key for key in keys if key.startswith(("best.", "last."))]
    return sorted(metrics, key=lambda key: key.split(".")[0]) + [key for key in keys if key not in metrics]


def lower_is_better(key: str) -> bool | None:
    """Return whether a lower result is better; None if neither direction is better."""
    name = key.rpartition(".")[2]
    if falls(name):
        return True
    return False if key == "images_per_s" or (key.startswith(("best.", "last.")) and name != "step") else None


def sort_runs(runs: list[Run], key: str | None) -> list[Run]:
    """Sort runs by a setting or result, ascending; ``-key`` is descending, None is best first. Missing values come last.

    Raises:
        KeyError: no run has the key.
    """
    down = key is not None and key.startswith("-")
    name = key.removeprefix("-") if key else f"best.{runs[0].metric}"
    if key is None:
        down = lower_is_better(name) is False
    if name == "name":
        return sorted(runs, key=lambda run: run.name, reverse=down)
    values = {id(run): run.settings.get(name, run.results.get(name)) for run in runs}
    if key is not None and not any(name in run.settings or name in run.results for run in runs):
        raise KeyError(name)
    known = [run for run in runs if values[id(run)] is not None and values[id(run)] == values[id(run)]]  # no NaN
    numeric = all(_is_number(values[id(run)]) for run in known)
    order: dict[int, Any] = values if numeric else {run: str(value) for run, value in values.items()}
    known.sort(key=lambda run: order[id(run)], reverse=down)
    return known + [run for run in runs if run not in known]


def write_csv(path: Path, runs: list[Run]) -> None:
    """Write a CSV file of all settings that differ and all results, one line per run."""
    settings, results = differing_keys(runs), result_keys(runs)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(map(csv_cell, ["name", "path", *settings, *results]))
    for run in runs:
        values = [run.settings.get(key, "") for key in settings] + [run.results.get(key, "") for key in results]
        writer.writerow(map(csv_cell, [run.name, run.path, *values]))
    with written_whole("--csv", path) as file:
        file.write(text.getvalue().encode("utf-8", errors="surrogateescape"))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return ``{"a.b": 1}`` for ``{"a": {"b": 1}}``. A list stays one value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _settings(folder: RunDir) -> dict[str, Any]:
    """Return the config, and the hardware and code of the last attempt."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        tree = load_yaml(read_bounded(folder.config, MOST_TEXT).decode(), loader)
    except FileNotFoundError:
        inside = next(folder.path.glob("*/config.yaml"), None)
        hint = f"; this folder contains runs: use {folder.path}/*" if inside else ""
        raise DamagedRun(f"there is no config.yaml{hint}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DamagedRun(f"config.yaml cannot be read: {' '.join(str(error).split())[:120]}") from None
    except TooLarge as error:
        raise DamagedRun(f"config.yaml {error}") from None
    if not isinstance(tree, dict):
        raise DamagedRun("config.yaml has no sections")
    attempt = (read_json(folder.provenance, default={}).get("attempts") or [{}])[-1]
    git = attempt.get("git") or {}
    commit = git.get("commit")
    facts = {
        "world_size": attempt.get("world_size"),
        "git.commit": f"{commit[:8]}{' (dirty)' if git.get('dirty') else ''}" if commit else None,
        "slurm.partition": (attempt.get("slurm") or {}).get("SLURM_JOB_PARTITION"),
    }
    facts |= {f"versions.{name}": version for name, version in (attempt.get("versions") or {}).items()}
    settings = flatten(tree) | {key: value for key, value in facts.items() if value is not None}
    if len(settings) > MOST_NAMES or any(len(key) > LONGEST_NAME for key in settings):
        raise DamagedRun(f"config.yaml has {len(settings)} keys, or one of more than {LONGEST_NAME} characters")
    return {key: _shown(value) for key, value in settings.items()}


def _shown(value: Any) -> Any:
    """Return a setting as it can be printed and written: what is no number, text, list or mapping becomes text.

    Raises:
        ValueError: an integer has so many digits that Python refuses to print it.
    """
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if value is None or isinstance(value, float | str) or (isinstance(value, int) and abs(value) < LARGEST):
        return value
    return str(value)


def _rows(path: Path) -> dict[str, list[Row]]:
    """Return the rows of each split. If a step was trained again after a restart, its last row counts."""
    by_split: dict[str, dict[int, Row]] = {}
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DamagedRun(f"metrics.jsonl has more than {MOST_BYTES >> 20} MiB")
        for row in read_rows(path):
            by_split.setdefault(row["split"], {})[row["step"]] = row
            if len(row) > MOST_NAMES or len(by_split) > MOST_SPLITS:
                raise DamagedRun("metrics.jsonl has more columns or splits than a run writes")
        if not by_split and path.stat().st_size:
            raise DamagedRun("metrics.jsonl has no readable row")
    except OSError:
        return {}
    return {split: [rows[step] for step in sorted(rows)] for split, rows in by_split.items()}


def _results(folder: RunDir, rows: dict[str, list[Row]], settings: dict[str, Any], metric: str) -> dict[str, Any]:
    result = read_result(folder)
    validations = rows.get("val", [])
    sign = -1 if falls(metric) else 1
    scored = [row for row in validations if _is_number(row.get(metric))]
    best = result.get("best") or max(scored, key=lambda row: (sign * row[metric], -_loss(row)), default={})
    last = validations[-1] if validations else result.get("last") or {}
    found: dict[str, Any] = {}
    for kind, row in (("best", best), ("last", last)):
        ordered = {metric: None} | row
        found |= {f"{kind}.{key}": value for key, value in ordered.items() if _is_metric(key, value)}
    found.pop("last.step", None)
    time_s, images_per_s = _training_time(rows, settings.get("train.global_batch"))
    step = max([row["step"] for split in rows.values() for row in split[-1:]] + [result.get("step") or 0])
    attempts = read_json(folder.provenance, default={}).get("attempts") or []
    found |= {
        "images_per_s": images_per_s or result.get("images_per_s"),
        "time_s": time_s or result.get("wall_s"),
        "steps": step,
        "restarts": max(0, len(attempts) - 1),
        "status": standing(folder, result),
    }
    return {key: value for key, value in found.items() if value is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


def _loss(row: Row) -> float:
    return float(row["loss"]) if _is_number(row.get("loss")) else math.inf


def _is_metric(key: str, value: Any) -> bool:
    return isinstance(value, int | float) and key not in ("epoch", "seconds")


def _training_time(rows: dict[str, list[Row]], global_batch: Any) -> tuple[float | None, float | None]:
    """Return the seconds of training and validation in all attempts, and the images/s of training."""
    images = seconds = 0.0
    before = 0
    for row in rows.get("train", []):
        if row.get("images_per_s") and isinstance(global_batch, int):
            done = (row["step"] - before) * global_batch
            images, seconds = images + done, seconds + done / row["images_per_s"]
        before = row["step"]
    if not seconds:
        return None, None
    return seconds + sum(row.get("seconds") or 0.0 for row in rows.get("val", [])), images / seconds


def standing(folder: RunDir, result: Row) -> str:
    """Return the status; for a failed run with the kind of error, for a silent running one with the hours of silence."""
    status = str(result.get("status", "unknown"))
    if status == "failed" and result.get("error"):
        return f"failed: {result['error']}"
    if status != "running":
        return status
    try:
        updated = datetime.strptime(result["updated"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
        news = max([updated, *(path.stat().st_mtime for path in (folder.metrics, folder.lock) if path.exists())])
    except (KeyError, ValueError):
        return status
    silent = time.time() - news
    return f"running, silent for {silent / 3600:.1f} h" if silent > SILENT_S else status
