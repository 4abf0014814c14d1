"""Which runs may be ranked together, which settings tell them apart, and which differ in their seed only."""

import os
from dataclasses import dataclass
from typing import Any

from dist_train.run.folder import RunDir
from dist_train.run.predictions import images_key
from launch.runs.reader import Run, differing_keys, sort_runs

OF_THE_VALIDATION = (
    "data.task", "data.format", "data.name", "data.root", "data.classes", "data.csv.val", "data.csv.path", "data.csv.targets",
    "data.csv.group", "data.val_fraction", "data.val_seed", "data.fold", "data.exclude", "data.max_val_images",
)  # fmt: skip
"""Settings that decide the validation images and their labels."""

FOLDED = (
    "versions.", "git.", "slurm.", "world_size", "distributed.", "checkpoint.", "hooks", "eval.batch_size", "eval.every_",
    "train.micro_batch", "train.time_limit", "train.pause_epoch", "train.fast_dev_run", "data.workers", "data.prefetch",
    "data.pin_memory", "data.persistent_workers", "data.cache", "data.stage", "data.timeout_s",
)  # fmt: skip
"""How such settings begin that say how and where a run was computed, and not what it learns."""
SEED = "run.seed"


@dataclass(frozen=True)
class Group:
    """Runs with one metric on the same validation images, the best first. ``about`` says what tells them from other groups."""

    about: str
    runs: list[Run]


def settings_in_levels(runs: list[Run]) -> tuple[list[str], list[str]]:
    """Return the settings that differ: those that decide what a run learns, and the others."""
    keys = differing_keys(runs)
    return [key for key in keys if not key.startswith(FOLDED)], [key for key in keys if key.startswith(FOLDED)]


def most_varied(runs: list[Run]) -> str | None:
    """Return the setting that matters with the most values, not the seed; None if none differs."""
    counts = {key: len({repr(run.settings.get(key)) for run in runs}) for key in settings_in_levels(runs)[0]}
    counts.pop(SEED, None)
    return max(counts, key=lambda key: counts[key], default=None)


def families(runs: list[Run]) -> list[int]:
    """Return a number for each run: the same for runs that differ in the seed and in no other setting that matters."""
    keys = [key for key in settings_in_levels(runs)[0] if key != SEED]
    numbers: dict[str, int] = {}
    return [numbers.setdefault(repr([run.settings.get(key) for key in keys]), len(numbers)) for run in runs]


def grouped(runs: list[Run], key: str | None = None) -> list[Group]:
    """Return the runs in groups of one metric and one set of validation images, sorted as ``sort_runs`` does.

    Images and labels are those of ``predictions.npz``. A run without that file belongs to the runs with the same settings of the
    validation set.

    Raises:
        KeyError: no run has ``key``.
    """
    runs = sort_runs(runs, key) if key else runs
    names = _images(runs)
    found: dict[Any, list[Run]] = {}
    for run, name in zip(runs, names, strict=True):
        found.setdefault((run.metric, name), []).append(run)
    parts = list(found.values()) if key else [sort_runs(part, None) for part in found.values()]
    firsts = [part[0] for part in parts]
    differ = [name for name in OF_THE_VALIDATION if len({repr(run.settings.get(name)) for run in firsts}) > 1]
    return [Group(_about(part[0], differ), part) for part in parts]


def _images(runs: list[Run]) -> list[Any]:
    """Return for each run what names its validation images."""
    keys = [images_key(RunDir(run.path).predictions) for run in runs]
    settings = [repr([_resolved(run.settings.get(name), name) for name in OF_THE_VALIDATION]) for run in runs]
    known: dict[str, set[str]] = {}
    for key, values in zip(keys, settings, strict=True):
        if key is not None:
            known.setdefault(values, set()).add(key)
    alone = {values: next(iter(found)) for values, found in known.items() if len(found) == 1}
    return [key or alone.get(values, values) for key, values in zip(keys, settings, strict=True)]


def _resolved(value: Any, name: str) -> Any:
    return os.path.realpath(value) if name == "data.root" and isinstance(value, str) and "\0" not in value else value


def _about(run: Run, differ: list[str]) -> str:
    shown = {name: "null" if run.settings.get(name) is None else run.settings[name] for name in differ}
    values = [f"{name}={value}" for name, value in shown.items()]
    return f"{run.metric} on {', '.join(values) if values else 'its own validation images'}"
