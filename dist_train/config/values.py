"""Read and set config values by dotted key (``train.ema``)."""

from collections.abc import Iterator
from functools import reduce
from typing import Any, get_args

from pydantic import BaseModel

from dist_train.config.types import ShortSection


def every_key(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every dotted key, in the order of the schema.

    An optional section (``train.early_stopping``), one that may be written as one value (``distributed.strategy``) and a table
    whose names the user chooses (``loss.class_weights``) count as one key, so that the keys are the same for every config.
    """
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, ShortSection):
            yield from every_key(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def value_of(tree: Any, key: str) -> Any:
    """Return the value of a dotted key in nested dicts.

    Raises:
        KeyError: the key is missing.
    """
    for name in key.split("."):
        if not isinstance(tree, dict):
            raise KeyError(key)
        tree = tree[name]
    return tree


def set_value(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested dicts, and make the dicts that are missing."""
    *parents, leaf = key.split(".")
    for parent in parents:
        if not isinstance(tree.get(parent), dict):
            tree[parent] = {}
        tree = tree[parent]
    tree[leaf] = value


def flat(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of nested dicts with its dotted key. An empty dict is a value.

    >>> list(flat({"optim": {"lr": 0.1, "options": {}}}))
    [('optim.lr', 0.1), ('optim.options', {})]
    """
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def is_set(cfg: BaseModel, key: str) -> bool:
    """Return whether the config gives a key, or a section, a value other than its default."""
    *sections, name = key.split(".")
    section: BaseModel = reduce(getattr, sections, cfg)
    differs = getattr(section, name) != type(section).model_fields[name].default
    return name in section.model_fields_set and differs


def section_class(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the class of a section inside of ``section``, which may be optional; None if the key holds something else."""
    field = section.model_fields.get(key)
    if field is None:
        return None
    candidates = [field.annotation, *get_args(field.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def takes_null(section: type[BaseModel], key: str) -> bool:
    """Return whether null is a value of a dotted key. It is none of a name that the user chooses (``loss.options.x``)."""
    name, _, rest = key.partition(".")
    inner = section_class(section, name)
    if rest:
        return inner is not None and takes_null(inner, rest)
    field = section.model_fields.get(name)
    return field is not None and type(None) in get_args(field.annotation)
