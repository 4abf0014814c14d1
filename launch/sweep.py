"""Turn the description of a sweep into named runs."""

import itertools
import re
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import yaml

from dist_train.config.yaml_text import TooLarge, load_yaml
from dist_train.errors import ConfigError
from launch.option_values import Halving, halving

Combination = tuple[str, list[str]]
"""Name of a run and its overrides."""


def expand(specs: list[str], base: str) -> list[Combination]:
    """Return all runs of a sweep. The name of a run contains its values.

    Args:
        specs: ``key=v1,v2`` for each axis of a grid, or one YAML file with ``grid:`` or ``list:``.
        base: the name of the sweep; the names of its runs begin with it.

    Raises:
        ConfigError: the description is wrong, or two runs have the same name.

    >>> expand(["optim.lr=1e-4,3e-4", "run.seed=0"], "vit")
    [('vit-lr1e-4-seed0', ['optim.lr=1e-4', 'run.seed=0']), ('vit-lr3e-4-seed0', ['optim.lr=3e-4', 'run.seed=0'])]
    """
    files = [spec for spec in specs if "=" not in spec]
    if files:
        if len(specs) > 1:
            raise ConfigError("--sweep must be one file, or key=v1,v2 once per key")
        rows = _from_file(Path(files[0]))
    else:
        axes = [(key, _split(values)) for key, _, values in (spec.partition("=") for spec in specs)]
        keys = [key for key, _ in axes]
        again = next((key for key in keys if keys.count(key) > 1), None)
        if again:
            raise ConfigError(f"--sweep {again} is given twice; write all its values together: --sweep {again}=v1,v2")
        rows = _grid(dict(axes))
    combinations = [(_name(base, row), [f"{key}={value}" for key, value in row.items()]) for row in rows]
    names = [name for name, _ in combinations]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"--sweep: two runs would be called {twice[0]}; their values must differ in letters, digits, dots or dashes"
        )
    return combinations


def halving_in(specs: list[str]) -> Halving | None:
    """Return the mapping ``halving`` of a sweep's file; None if there is none.

    Raises:
        ConfigError: it is wrong.
    """
    tree = next((_tree(Path(spec)) for spec in specs if "=" not in spec), None)
    if not isinstance(tree, dict) or "halving" not in tree:
        return None
    try:
        given = tree["halving"] or {}
        return halving(given if isinstance(given, str) else ",".join(f"{key}={value}" for key, value in given.items()))
    except (ArgumentTypeError, AttributeError) as error:
        raise ConfigError(f"--sweep, `halving`: {error}") from None


def _tree(path: Path) -> Any:
    try:
        return load_yaml(path.read_text(), yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TooLarge) as error:
        raise ConfigError(f"cannot read --sweep {path}: {' '.join(str(error).split())}") from None


def _from_file(path: Path) -> list[dict[str, str]]:
    """Read ``grid: {key: [v1, v2]}`` or ``list: [{key: v}, ...]``. Values stay text, as written."""
    tree = _tree(path)
    if isinstance(tree, dict):
        tree.pop("halving", None)
    match tree:
        case {"grid": dict(axes), **rest} if not rest and all(
            isinstance(values, list) and values for values in axes.values()
        ):
            return _grid({key: [_text(value) for value in values] for key, values in axes.items()})
        case {"list": [_, *_] as rows, **rest} if not rest and all(isinstance(row, dict) and row for row in rows):
            return [{key: _text(value) for key, value in row.items()} for row in rows]
    raise ConfigError(
        f"--sweep {path} must contain `grid:` with a list of values per key, or `list:` with one mapping per run, and may contain `halving:`"
    )


def _grid(axes: dict[str, list[str]]) -> list[dict[str, str]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _split(values: str) -> list[str]:
    """Split at commas, except inside brackets."""
    found = re.findall(r"(?:\[[^\]]*\]|\{[^}]*\}|[^,])+", values)
    parts = [part.strip() for part in found if part.strip()]  # `v1, v2` is `v1,v2`
    if not parts:
        raise ConfigError("--sweep key=v1,v2 must have at least one value")
    return parts


def _text(value: Any) -> str:
    """Return a YAML value as the text after ``=`` in an override."""
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in value.items()) + "}"
    return str(value)


def _name(base: str, row: dict[str, str]) -> str:
    parts = [key.rpartition(".")[2] + value for key, value in row.items() if key != "run.name"]
    return row.get("run.name") or "-".join([base, *(re.sub(r"[^A-Za-z0-9._-]+", "_", part) for part in parts)])
