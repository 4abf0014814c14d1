"""Turn the description of a sweep into named runs."""

import itertools
import re
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import yaml

from dist_train.config.yaml_text import TooLarge, load_yaml
from dist_train.errors import ConfigError
from launch.jobs.draws import is_range, points, split
from launch.jobs.option_values import Draw, Halving, draw, halving

Combination = tuple[str, list[str]]
"""Name of a run and its overrides."""


def expand(specs: list[str], base: str, drawn: Draw | None = None) -> list[Combination]:
    """Return all runs of a sweep. The name of a run contains its values.

    Args:
        specs: ``key=v1,v2`` for each axis of a grid and ``key=log(a, b)`` for each range, or one YAML file with ``grid:``,
            ``ranges:``, both, or ``list:``.
        base: the name of the sweep; the names of its runs begin with it.
        drawn: how many points of the ranges to draw; None: as a file says. Each is crossed with the grid.

    Raises:
        ConfigError: the description is wrong, or two runs have the same name.

    >>> expand(["optim.lr=1e-4,3e-4", "run.seed=0"], "vit")
    [('vit-lr1e-4-seed0', ['optim.lr=1e-4', 'run.seed=0']), ('vit-lr3e-4-seed0', ['optim.lr=3e-4', 'run.seed=0'])]
    """
    files = [spec for spec in specs if "=" not in spec]
    if files:
        if len(specs) > 1:
            raise ConfigError("--sweep must be one file, or key=v1,v2 once per key")
        rows = _from_file(Path(files[0]), drawn)
    else:
        rows = _from_words([(key, values) for key, _, values in (spec.partition("=") for spec in specs)], drawn)
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


def _from_words(axes: list[tuple[str, str]], drawn: Draw | None) -> list[dict[str, str]]:
    keys = [key for key, _ in axes]
    again = next((key for key in keys if keys.count(key) > 1), None)
    if again:
        raise ConfigError(f"--sweep {again} is given twice; write all its values together: --sweep {again}=v1,v2")
    ranges = {key: values for key, values in axes if is_range(values)}
    return _crossed({key: _split(values) for key, values in axes if key not in ranges}, ranges, drawn)


def _from_file(path: Path, drawn: Draw | None) -> list[dict[str, str]]:
    """Read ``grid: {key: [v1, v2]}``, ``ranges: {key: log(a, b)}`` or ``list: [{key: v}, ...]``. Values stay text, as written."""
    tree = _tree(path)
    if isinstance(tree, dict):
        tree.pop("halving", None)
        drawn = drawn or _draw_of(tree)
        tree.pop("draw", None)
    match tree:
        case {"list": [_, *_] as rows, **rest} if not rest and all(isinstance(row, dict) and row for row in rows):
            _crossed({}, {}, drawn)  # a list has no ranges to draw from
            return [{key: _text(value) for key, value in row.items()} for row in rows]
        case dict(parts) if parts and parts.keys() <= {"grid", "ranges"} and all(map(_is_mapping, parts.values())):
            axes, ranges = parts.get("grid", {}), parts.get("ranges", {})
            both = next((key for key in axes if key in ranges), None)
            if both:
                raise ConfigError(f"--sweep {path}: {both} has a list in `grid` and a range in `ranges`; remove one")
            if all(isinstance(values, list) and values for values in axes.values()):
                listed = {key: [_text(value) for value in values] for key, values in axes.items()}
                return _crossed(listed, {key: _text(value) for key, value in ranges.items()}, drawn)
    raise ConfigError(
        f"--sweep {path} must contain `grid:` with a list of values per key, `ranges:` with a range such as log(1e-5, 1e-2) "
        "per key, or both, or `list:` with one mapping per run; and may contain `draw:` and `halving:`"
    )


def _is_mapping(part: Any) -> bool:
    return isinstance(part, dict) and bool(part)


def _draw_of(tree: dict[str, Any]) -> Draw | None:
    try:
        return draw(_text(tree["draw"])) if "draw" in tree else None
    except ArgumentTypeError as error:
        raise ConfigError(f"--sweep, `draw`: {error}") from None


def _crossed(axes: dict[str, list[str]], ranges: dict[str, str], drawn: Draw | None) -> list[dict[str, str]]:
    """Return the product of the drawn points and the grid."""
    if ranges and drawn is None:
        key, text = next(iter(ranges.items()))
        raise ConfigError(f"--sweep {key}={text} is a range: say how many points to draw, such as --draw halton:16")
    if drawn and not ranges:
        raise ConfigError(f"--draw {drawn} has no effect: no key of the sweep has a range, such as log(1e-5, 1e-2)")
    drawn_points = points(ranges, drawn) if drawn else [{}]
    return [{**point, **cell} for point in drawn_points for cell in _grid(axes)]


def _grid(axes: dict[str, list[str]]) -> list[dict[str, str]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _split(values: str) -> list[str]:
    parts = split(values)
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
