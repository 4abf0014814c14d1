"""Error messages for wrong keys and values: the key, the value, the rule and the fix."""

import difflib
import re
from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel

from dist_train.config.values import section_class
from dist_train.config.yaml_text import NUMBER

RULES = {
    "bool_type": "must be true or false",
    "dict_type": "must be a section of names and values",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must begin with a letter or digit; letters, digits, dots, dashes and underscores may follow",
    "tuple_type": "must be a list, in square brackets",
}
"""Type of pydantic's error -> the rule in plain words."""

KEYS = {"batch_size": "train.global_batch", "learning_rate": "optim.lr", "warmup": "schedule.warmup_epochs"}
VALUES = {"acc": "top1", "accuracy": "top1", "bf16": "amp_bf16"}
"""Keys and values that other programs use -> ours."""


def explain(error: Any, root: type[BaseModel]) -> str:
    """Return one line for one of pydantic's errors."""
    location = _without_kind([str(part) for part in error["loc"] if part != "[key]"], root)
    key, value = ".".join(location), error["input"]
    if together := _without_space(error["type"], location, value, root):
        return f"`{key}`: write a space after the colon: {together.replace(':', ': ', 1)}"
    given = f"`{key}` ({_listed(value)!r})"
    match error["type"]:
        case "extra_forbidden" | "invalid_key":
            return f"`{key}` is not a key: {_key_meant(location, root)}"
        case "missing" if location[-1].isdecimal():  # of a list
            fix = _default(location, root)
            return f"`{'.'.join(location[:-1])}` ({_listed(value)!r}) has too few values{fix}"
        case "missing":
            inner = section_class(_section(location, root), location[-1])
            example = f"{key}.{next(iter(_required(inner)), '...')}" if inner else key
            return f"`{key}` is missing: set it in the file, or give {example}=... on the command line"
        case "literal_error":
            valid = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            return f"{given} must be one of {', '.join(valid)}{_value_meant(str(value), valid)}"
        case "choice":
            names, own = error["ctx"]["names"], error["ctx"]["own"]
            listed = ", ".join([*names, f"or {own}"] if own else names)
            return f"{given} must be one of {listed}{_value_meant(str(value), names)}"
        case "options":
            about = error["ctx"]
            lines = [_of_an_option(item, about["section"]) for item in about["errors"]]
            return f"`{key}`: {about['name']}: {'; '.join(lines)}"
        case "value_error":
            return f"`{key}`: {error['ctx']['error']}"
        case "model_type":
            section = _section(location, root)
            inner = section if location[-1].isdecimal() else section_class(section, location[-1])  # an item of a list
            keys = ", ".join(inner.model_fields) if inner else ""
            return f"{given} must be a section with some of the keys {keys}; or remove it"
        case kind:
            rule = RULES.get(kind) or re.sub(r"^\w+ should ", "must ", error["msg"]).replace(" after validation", "")
            return f"{given} {rule}{_quotes(kind, value) or _default(location, root)}"


def _without_kind(location: list[str], root: type[BaseModel]) -> list[str]:
    """Return the keys without the kind of value that pydantic adds where a key takes several kinds."""
    *keys, last = location
    field = _section(keys, root).model_fields.get(keys[-1]) if keys else None
    several = field is not None and len([kind for kind in get_args(field.annotation) if kind is not NoneType]) > 1
    return keys if several and re.fullmatch(r"bool|(constrained-)?(int|float|str)|literal\[.*\]", last) else location


def _without_space(kind: str, location: list[str], value: Any, root: type[BaseModel]) -> str | None:
    """Return the text that YAML did not read as a key and its value, as in ``{lr:0.1}`` or ``lr:0.1``; else None."""
    section = _section(location, root)
    if kind == "model_type":
        text, inner = value, section_class(section, location[-1])
    else:
        text, inner = (location[-1] if value is None else None), section
    name, colon, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    return text if colon and rest and inner is not None and name in inner.model_fields else None


def _of_an_option(error: Any, section: type[BaseModel]) -> str:
    """Return one line for an error in a section that is not part of the config: the options of an operation."""
    if not error["loc"]:
        return str(error["ctx"]["error"])
    return f"`{error['loc'][0]}` is missing" if error["type"] == "missing" else explain(error, section)


def _listed(value: Any) -> Any:
    """Return ``value`` as YAML writes it: with lists for tuples."""
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _quotes(kind: str, value: Any) -> str:
    """Return the fix if only the quotes are wrong; else an empty string."""
    if kind == "string_type" and isinstance(value, int | float):
        return "; write it in quotes"
    if kind in ("int_type", "float_type") and isinstance(value, str) and NUMBER.match(value):
        return "; write it without quotes"
    return ""


def _default(location: list[str], root: type[BaseModel]) -> str:
    section = _section(location, root)
    names = [part for part in location if part in section.model_fields]
    field = section.model_fields.get(names[-1]) if names else None
    if field is None or field.is_required() or field.default is None:
        return ""
    return f"; the default is {_listed(field.default)!r}"


def _value_meant(value: str, valid: list[str]) -> str:
    value = value.lower()
    known = [VALUES[value]] if VALUES.get(value) in valid else []
    near = known or [name for name in valid if value in name] or difflib.get_close_matches(value, valid, 1, 0.7)
    return f"; did you mean {' or '.join(near[:2])}?" if near and value else ""


def _key_meant(location: list[str], root: type[BaseModel]) -> str:
    """Return a hint for an unknown key: the same name in another section, a similar name, or all keys of its section."""
    leaf, section = location[-1].lower(), _section(location, root)
    same = [KEYS[leaf]] if leaf in KEYS else [path for path in _paths(root) if path.split(".")[-1] == leaf]
    near = [".".join([*location[:-1], name]) for name in difflib.get_close_matches(leaf, section.model_fields, n=1)]
    if same or near:
        return f"did you mean {' or '.join(f'`{path}`' for path in (same or near)[:3])}?"
    name = section.__name__.removesuffix("Config").lower() or "the file"
    return f"the keys of {name} are {', '.join(section.model_fields)}"


def _paths(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield all dotted keys, including those of optional sections."""
    for key in section.model_fields:
        inner = section_class(section, key)
        yield from _paths(inner, f"{prefix}{key}.") if inner else (f"{prefix}{key}",)


def _required(section: type[BaseModel]) -> list[str]:
    return [key for key, field in section.model_fields.items() if field.is_required()]


def _section(location: list[str], root: type[BaseModel]) -> type[BaseModel]:
    """Return the section that holds the last key of ``location``."""
    section = root
    for part in location[:-1]:
        inner = section_class(section, part)
        if inner is None:
            break
        section = inner
    return section
