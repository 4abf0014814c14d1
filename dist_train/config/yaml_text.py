"""Convert YAML text to plain values and back."""

import re
from collections.abc import Hashable, Iterable
from typing import Any

import yaml

from dist_train.config.values import set_value
from dist_train.errors import ConfigError

TAG = "tag:yaml.org,2002:"
MOST_TEXT, MOST_VALUES, DEEPEST = 1 << 20, 100_000, 50
"""Limits of a YAML text: characters, values, levels."""


SCALARS: dict[str, tuple[re.Pattern[str], str]] = {
    f"{TAG}bool": (re.compile(r"^(?:true|True|false|False)$"), "tTfF"),
    f"{TAG}int": (re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), "-+0123456789"),
    f"{TAG}float": (
        re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf))$"),
        "-+.0123456789",
    ),
}
"""Type of a scalar -> (its pattern, the characters that it may begin with). Any other scalar is a string."""


NUMBER = re.compile("|".join(pattern.pattern for name, (pattern, _) in SCALARS.items() if name != f"{TAG}bool"))


class _Loader(yaml.SafeLoader):
    """Read safe YAML. ``1e-4`` is a number; ``on``, ``1:30:00``, ``007`` and ``2026-11-22`` are strings; a key that appears
    twice is an error, and so is a NUL character, which no path and no name has.
    """

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and "\0" in value:
            raise yaml.constructor.ConstructorError(None, None, f"{value!r} has a NUL character", node.start_mark)
        return value

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
    """Put quotes around a string that ``_Loader`` or any other YAML reader would read as another type."""


for tag, (pattern, first) in SCALARS.items():
    _Loader.add_implicit_resolver(tag, pattern, list(first))
    _Dumper.add_implicit_resolver(tag, pattern, list(first))


HINTS = {
    r"'\t'": "indent with spaces, not with tabs",
    "an alias": "put quotes around text that starts with *",
    "an anchor": "put quotes around text that starts with &",
    "escape character": "put such text in single quotes",
    "mapping values": "write each key on a line of its own; put quotes around text that contains a colon",
}
"""Words in PyYAML's errors -> the fix, which PyYAML does not give."""


class TooLarge(Exception):
    """A YAML text that would take more memory or stack than a config can need."""


def load_yaml(text: str, loader: Any) -> Any:
    """Return the values in a YAML text, as ``yaml.load`` does, within limits.

    A few lines of aliases of aliases can stand for 2^30 values, and libyaml's loader crashes on deep nesting.

    Raises:
        TooLarge: the text, its values with every alias written out, or its nesting exceed the limits.
        yaml.YAMLError, ValueError: the text is not valid YAML.
    """
    if len(text) > MOST_TEXT:
        raise TooLarge(f"has more than {MOST_TEXT >> 20} MiB")
    _refuse_large(yaml.parse(text, Loader=loader))
    return yaml.load(text, Loader=loader)  # noqa: S506 - the callers' loaders make plain values only


def _refuse_large(events: Iterable[yaml.Event]) -> None:
    """Raise TooLarge for a document that is nested too deeply, or expands to too many values."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the number of values before it
    count = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            count += sizes.get(event.anchor or "", 1)  # one that is still open, a loop, is refused below
            if any(event.anchor == anchor for anchor, _ in open_nodes):
                raise TooLarge(f"contains itself (*{event.anchor})")
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = count - before
        if count > MOST_VALUES:
            raise TooLarge(f"has more than {MOST_VALUES:,} values, with each alias (*name) written out")
        if len(open_nodes) > DEEPEST:
            raise TooLarge(f"is nested too deeply, in more than {DEEPEST} levels")


def parse_yaml(text: str, where: str) -> Any:
    """Return the values in a YAML text.

    Raises:
        ConfigError: the text is not valid YAML; the message starts with ``where``.
    """
    try:
        return load_yaml(text, _Loader)
    except TooLarge as error:
        raise ConfigError(f"{where} {error}, which no config needs; write it in sections") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        words = " ".join(filter(None, (error.context, error.problem)))
        fix = next((f"; {fix}" for sign, fix in HINTS.items() if sign in words), "")
        raise ConfigError(f"{where} is not valid YAML{place}: {' '.join(words.split())}{fix}") from None
    except (yaml.YAMLError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None


def line_of(text: str, key: str) -> int | None:
    """Return the line, from 1, on which a YAML text that was read before has a dotted key; None if it does not have it.

    A number in the key is the place in a list, from 0.
    """
    node = yaml.compose(text, Loader=_Loader)
    line = None
    for part in key.split("."):
        if isinstance(node, yaml.MappingNode):
            _Loader("").flatten_mapping(node)  # what `<<` takes from an anchor
            named = [(name, value) for name, value in node.value if name.value == part]
            if not named:
                return None
            name, node = named[-1]
            line = name.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            return None
    return line


def to_yaml(tree: dict[str, Any]) -> str:
    """Return the YAML text from which ``parse_yaml`` reads ``tree``."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False)
    return text


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set the key of ``key.path=value`` in nested dicts.

    Raises:
        ConfigError: the override does not have this form, or its value is empty or not valid YAML.
    """
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{override!r} is not an override: write key.path=value, such as optim.lr=1e-4")
    if not value.strip():
        raise ConfigError(f"{override!r} has no value (an empty shell variable?); write {key}=null if you mean none")
    set_value(tree, key, parse_yaml(value, f"the value of {key}"))


def tuples(value: Any) -> Any:
    """Return ``value`` with tuples for lists: YAML has lists only, and the fields are tuples."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value
