"""Sweeps: from a description to named runs."""

import itertools
import re
from pathlib import Path
from typing import Any

import yaml

from dist_train.errors import ConfigError

Combination = tuple[str, list[str]]
"""Name of a run, and its overrides."""


def expand(specs: list[str], base: str) -> list[Combination]:
    """Return all runs of a sweep, each with a name that shows its values.

    Args:
        specs: ``key=v1,v2`` for each axis of a grid, or one YAML file with ``grid:`` or ``list:``.
        base: the name of the sweep, with which the runs' names begin.

    Raises:
        ConfigError: the description is wrong, or two runs have the same name.

    >>> expand(["optim.lr=1e-4,3e-4", "run.seed=0"], "vit")
    [('vit-lr1e-4-seed0', ['optim.lr=1e-4', 'run.seed=0']), ('vit-lr3e-4-seed0', ['optim.lr=3e-4', 'run.seed=0'])]
    """
    files = [spec for spec in specs if "=" not in spec]
    if files:
        if len(specs) > 1:
            raise ConfigError("--sweep takes one file, or key=v1,v2 once for each key")
        rows = _from_file(Path(files[0]))
    else:
        axes = [(key, _split(values)) for key, _, values in (spec.partition("=") for spec in specs)]
        keys = [key for key, _ in axes]
        again = next((key for key in keys if keys.count(key) > 1), None)
        if again:
            raise ConfigError(f"--sweep {again} is given twice; write all its values in one: --sweep {again}=v1,v2")
        rows = _grid(dict(axes))
    combinations = [(_name(base, row), [f"{key}={value}" for key, value in row.items()]) for row in rows]
    names = [name for name, _ in combinations]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"--sweep: two runs would be called {twice[0]}; their values must differ in a name's characters"
        )
    return combinations


def _from_file(path: Path) -> list[dict[str, str]]:
    """Read ``grid: {key: [v1, v2]}`` or ``list: [{key: v}, ...]``. Values stay as they are written."""
    try:
        tree = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read --sweep {path}: {' '.join(str(error).split())}") from None
    match tree:
        case {"grid": dict(axes), **rest} if not rest and all(
            isinstance(values, list) and values for values in axes.values()
        ):
            return _grid({key: [_text(value) for value in values] for key, values in axes.items()})
        case {"list": [_, *_] as rows, **rest} if not rest and all(isinstance(row, dict) and row for row in rows):
            return [{key: _text(value) for key, value in row.items()} for row in rows]
    raise ConfigError(
        f"--sweep {path} must hold `grid:` with a list of values for each key, or `list:` with one mapping for each run"
    )


def _grid(axes: dict[str, list[str]]) -> list[dict[str, str]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _split(values: str) -> list[str]:
    """Commas separate values, except inside brackets."""
    found = re.findall(r"(?:\[[^\]]*\]|\{[^}]*\}|[^,])+", values)
    parts = [part.strip() for part in found if part.strip()]  # `v1, v2` is `v1,v2`
    if not parts:
        raise ConfigError("--sweep key=v1,v2 needs at least one value")
    return parts


def _text(value: Any) -> str:
    """Return a YAML value as the right side of an override."""
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in value.items()) + "}"
    return str(value)


def _name(base: str, row: dict[str, str]) -> str:
    parts = [key.rpartition(".")[2] + value for key, value in row.items() if key != "run.name"]
    return row.get("run.name") or "-".join([base, *(re.sub(r"[^A-Za-z0-9._-]+", "_", part) for part in parts)])
