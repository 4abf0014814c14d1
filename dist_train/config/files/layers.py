"""The YAML files that a config is made of: the user's file, the file that its `base` names, that file's own base, and so on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dist_train.config.files import recipes
from dist_train.config.rules.migrations import migrated
from dist_train.config.values import takes_null
from dist_train.config.yaml_text import MOST_TEXT, parse_yaml
from dist_train.errors import ConfigError
from dist_train.system.files import read_bounded

BASE = "base"
"""Key of a YAML file that names another one. Files have it; a ``Config``, which is made from all of them, does not."""


@dataclass(frozen=True)
class Layer:
    """One file: its name for messages, its text, and its values under today's keys, without `base`."""

    name: str
    text: str
    tree: dict[str, Any]


def read_layers(path: Path, of_a_run: bool = False) -> list[Layer]:
    """Return the layers of a config file, the farthest base first and the file itself last.

    Args:
        of_a_run: the file is the ``config.yaml`` of a run folder, which never has a base.

    Raises:
        ConfigError: a file cannot be read or holds no sections, or a file is a base of itself.
    """
    layers: list[Layer] = []
    seen: set[str] = set()
    place: Path | None = path
    said = f"the config file {path}"
    while place is not None:
        seen.add(os.path.realpath(place))
        text = _text(place, said, of_a_run)
        tree = _sections(text, str(place))
        base = None if of_a_run else tree.pop(BASE, None)
        layers.insert(0, Layer(str(place), text, migrated(tree, of_a_run, of_one_file=True)))
        said = f"the file that `{BASE}` ({base}) of {place} names"
        place = None if base is None else _place_of(base, place)
        if place is not None and os.path.realpath(place) in seen:
            raise ConfigError(f"`{BASE}` ({base}) of {layers[0].name} leads back to {place}; remove one of the two")
    return layers


def merged(layers: Sequence[Layer], schema: type[BaseModel]) -> dict[str, Any]:
    """Return the values of all layers as nested dicts: those of a file replace those of its base.

    Args:
        schema: the config's class, which says of which keys null is a value.
    """
    tree: dict[str, Any] = {}
    for layer in layers:
        tree = _over(tree, layer.tree, schema)
    return tree


def _over(base: dict[str, Any], values: dict[str, Any], schema: type[BaseModel], section: str = "") -> dict[str, Any]:
    """Return ``base`` with ``values`` in it. Mappings are merged.

    If a key does not accept null, null removes the value of the base, and the key has its default.
    """
    found = dict(base)
    for name, value in values.items():
        key = f"{section}{name}"
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name] = _over(found[name], value, schema, f"{key}.")
        elif value is None and name in found and not takes_null(schema, key):
            del found[name]
        else:
            found[name] = value
    return found


def _text(place: Path, said: str, of_a_run: bool) -> str:
    try:
        # The config of a run may be somebody else's; a user's own may be a pipe, as in --config <(...).
        return read_bounded(place, MOST_TEXT).decode() if of_a_run else place.read_text(encoding="utf-8")
    except OSError as error:
        own = place / "config.yaml"
        hint = f"; the config of this run is {own}" if os.path.isfile(own) else ""
        raise ConfigError(f"cannot read {said}: {error.strerror}{hint}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {said}: {error}; save it as UTF-8 text") from None


def _sections(text: str, where: str) -> dict[str, Any]:
    tree = parse_yaml(text, where)
    if not isinstance(tree, dict):
        found = "is empty: it" if tree is None else f"contains the {type(tree).__name__} {tree!r:.40}; it"
        raise ConfigError(
            f"{where} {found} must hold sections such as `model:` and `data:`; `dist-train --example` lists examples"
        )
    return tree


def _place_of(base: Any, child: Path) -> Path:
    """Return the file that `base` names: a recipe of this installation, or a path relative to ``child``."""
    if not isinstance(base, str):
        raise ConfigError(f"`{BASE}` ({base!r}) of {child} must be recipes/NAME or the path of one YAML file")
    if base.startswith(recipes.PREFIX) and not base.endswith((".yaml", ".yml")):
        return recipes.path_of(base.removeprefix(recipes.PREFIX), f"`{BASE}` of {child}:")
    return child.parent / os.path.expanduser(os.path.expandvars(base))
