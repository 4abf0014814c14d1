"""Text to values, and wrong values to words: YAML, overrides, and what is told of a mistake."""

import difflib
import re
from typing import Any, get_args

import yaml
from pydantic import (
    BaseModel,
)

from dist_train.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``1e-4`` is a number, ``on`` is a string, and a key written twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regexp) for tag, regexp in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf))$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None


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


def explain(error: Any, root: type[BaseModel]) -> str:
    """One line for one of pydantic's errors: key, value, rule, fix."""
    location = [str(part) for part in error["loc"]]
    parent, known = _section_at(location, root)
    key = ".".join(location)
    match error["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(location[-1], known, n=1)
            fix = (
                f"did you mean `{'.'.join([*location[:-1], near[0]])}`?" if near else f"{parent} has {', '.join(known)}"
            )
            return f"`{key}` is not a key: {fix}"
        case "missing":
            return f"`{key}` is missing: set it in the file, or give {key}=... on the command line"
        case "literal_error":
            valid = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            near = difflib.get_close_matches(str(error["input"]), valid, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            return f"`{key}` ({error['input']!r}) must be one of {', '.join(valid)}{hint}"
        case "value_error":
            return f"`{key}`: {error['ctx']['error']}"
        case _:
            rule = error["msg"].replace("Input should", "must")
            default = _default_at(location, root)
            fix = f"; the default is {default!r}" if default is not None else ""
            return f"`{key}` ({error['input']!r}) {rule}{fix}"


def _section_at(location: list[str], root: type[BaseModel]) -> tuple[str, list[str]]:
    """The name and the keys of the section that holds ``location``."""
    section = root
    for part in location[:-1]:
        inner = _section_class(section, part)
        if inner is None:
            break
        section = inner
    return section.__name__.removesuffix("Config").lower() or "the file", list(section.model_fields)


def _section_class(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    field = section.model_fields.get(key)
    if field is None:
        return None
    candidates = [field.annotation, *get_args(field.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _default_at(location: list[str], root: type[BaseModel]) -> Any:
    section = root
    for part in location:
        inner = _section_class(section, part)
        if inner is None:
            field = section.model_fields.get(part)
            return None if field is None or field.is_required() else field.default
        section = inner
    return None
