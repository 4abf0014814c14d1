"""Text to values, and wrong values to words: YAML, overrides, and what is told of a mistake."""

import difflib
import re
from collections.abc import Hashable, Iterator
from typing import Any, get_args

import yaml
from pydantic import (
    BaseModel,
)

from dist_train.errors import ConfigError

TAG = "tag:yaml.org,2002:"
SCALARS: dict[str, tuple[re.Pattern[str], str]] = {
    f"{TAG}bool": (re.compile(r"^(?:true|True|false|False)$"), "tTfF"),
    f"{TAG}int": (re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), "-+0123456789"),
    f"{TAG}float": (
        re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf))$"),
        "-+.0123456789",
    ),
}
"""What is no string: the forms, and the characters that they begin with."""


NUMBER = re.compile("|".join(pattern.pattern for name, (pattern, _) in SCALARS.items() if name != f"{TAG}bool"))


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``1e-4`` is a number; ``on``, ``1:30:00``, ``007`` and ``2026-11-22`` are strings; and a key
    written twice is an error.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = None if key_node.tag == f"{TAG}merge" else self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            if key is not None and isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag in (f"{TAG}null", f"{TAG}merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Writes quotes around a string that ``_Loader`` or any other YAML reader would take for something else."""


for tag, (pattern, first) in SCALARS.items():
    _Loader.add_implicit_resolver(tag, pattern, list(first))
    _Dumper.add_implicit_resolver(tag, pattern, list(first))


HINTS = {
    r"'\t'": "indent with spaces, not with tabs",
    "an alias": "put quotes around text that begins with *",
    "an anchor": "put quotes around text that begins with &",
    "escape character": "put such text in single quotes",
    "mapping values": "put quotes around text that holds a colon",
}
"""Where YAML's own words say what is wrong, and not what to do."""


def parse_yaml(text: str, where: str) -> Any:
    """Values from text.

    Raises:
        ConfigError: it is not YAML; ``where`` begins the message.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        words = " ".join(filter(None, (error.context, error.problem)))
        fix = next((f"; {fix}" for sign, fix in HINTS.items() if sign in words), "")
        raise ConfigError(f"{where} is not valid YAML{place}: {' '.join(words.split())}{fix}") from None
    except (yaml.YAMLError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply to be a config; write it in sections") from None


def to_yaml(tree: dict[str, Any]) -> str:
    """The text that ``parse_yaml`` reads back to ``tree``."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False)
    return text


def apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{override!r} is no override: write key.path=value, such as optim.lr=1e-4")
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            child = tree[parent] = {}
        tree = child
    tree[leaf] = parse_yaml(value, f"the value of {key}")


def tuples(value: Any) -> Any:
    """YAML knows lists only, and strict validation wants tuples where the type is a tuple."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value


RULES = {
    "bool_type": "must be true or false",
    "dict_type": "must be a section of names and values",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must begin with a letter or digit; letters, digits, dots, dashes and underscores may follow",
    "tuple_type": "must be a list, in square brackets",
}
"""In plainer words than pydantic's."""

KEYS = {"batch_size": "train.global_batch", "learning_rate": "optim.lr", "warmup": "schedule.warmup_epochs"}
VALUES = {"acc": "top1", "accuracy": "top1", "bf16": "amp_bf16"}
"""What other programs call our keys and values."""


def explain(error: Any, root: type[BaseModel]) -> str:
    """One line for one of pydantic's errors: key, value, rule, fix."""
    location = [str(part) for part in error["loc"] if part != "[key]"]
    key, value = ".".join(location), error["input"]
    given = f"`{key}` ({_listed(value)!r})"
    match error["type"]:
        case "extra_forbidden" | "invalid_key":
            return f"`{key}` is not a key: {_key_meant(location, root)}"
        case "missing" if location[-1].isdecimal():  # in a list
            fix = _default(location, root)
            return f"`{'.'.join(location[:-1])}` ({_listed(value)!r}) has too few values{fix}"
        case "missing":
            inner = _section_class(_section(location, root), location[-1])
            example = f"{key}.{next(iter(_required(inner)), '...')}" if inner else key
            return f"`{key}` is missing: set it in the file, or give {example}=... on the command line"
        case "literal_error":
            valid = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            return f"{given} must be one of {', '.join(valid)}{_value_meant(str(value), valid)}"
        case "value_error":
            return f"`{key}`: {error['ctx']['error']}"
        case "model_type":
            inner = _section_class(_section(location, root), location[-1])
            keys = ", ".join(inner.model_fields) if inner else ""
            return f"{given} must be a section with some of the keys {keys}; or remove it"
        case kind:
            rule = RULES.get(kind) or re.sub(r"^\w+ should ", "must ", error["msg"]).replace(" after validation", "")
            return f"{given} {rule}{_quotes(kind, value) or _default(location, root)}"


def _listed(value: Any) -> Any:
    """``value`` as it stands in a file, with lists for tuples."""
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _quotes(kind: str, value: Any) -> str:
    """The fix where quotes are what is wrong."""
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
    known = [VALUES[value]] if VALUES.get(value) in valid else []
    near = known or [name for name in valid if value in name] or difflib.get_close_matches(value, valid, 1, 0.7)
    return f"; did you mean {' or '.join(near[:2])}?" if near and value else ""


def _key_meant(location: list[str], root: type[BaseModel]) -> str:
    """What may have been meant by an unknown key: one of another section, one of a like name, or any of its section."""
    leaf, section = location[-1], _section(location, root)
    same = [KEYS[leaf]] if leaf in KEYS else [path for path in _paths(root) if path.split(".")[-1] == leaf]
    near = [".".join([*location[:-1], name]) for name in difflib.get_close_matches(leaf, section.model_fields, n=1)]
    if same or near:
        return f"did you mean {' or '.join(f'`{path}`' for path in (same or near)[:3])}?"
    name = section.__name__.removesuffix("Config").lower() or "the file"
    return f"{name} has {', '.join(section.model_fields)}"


def _paths(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All keys, dotted."""
    for key in section.model_fields:
        inner = _section_class(section, key)
        yield from _paths(inner, f"{prefix}{key}.") if inner else (f"{prefix}{key}",)


def _required(section: type[BaseModel]) -> list[str]:
    return [key for key, field in section.model_fields.items() if field.is_required()]


def _section(location: list[str], root: type[BaseModel]) -> type[BaseModel]:
    """The section that holds ``location``."""
    section = root
    for part in location[:-1]:
        inner = _section_class(section, part)
        if inner is None:
            break
        section = inner
    return section


def _section_class(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    field = section.model_fields.get(key)
    if field is None:
        return None
    candidates = [field.annotation, *get_args(field.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
