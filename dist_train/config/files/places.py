"""The file and the line of a wrong value, for error messages."""

import re
from collections.abc import Sequence

from dist_train.config.files.layers import Layer
from dist_train.config.yaml_text import line_of

KEY = re.compile(r"`([\w.-]+)`")


def with_places(message: str, layers: Sequence[Layer], overrides: Sequence[str]) -> str:
    """Return an error message in which each line ends with the place that its first key has its value from.

    A line stays as it is where that value is a default or comes from the command line, which the user has in sight.
    """
    return "\n".join(f"{line}{_place(line, layers, overrides)}" for line in message.splitlines())


def _place(line: str, layers: Sequence[Layer], overrides: Sequence[str]) -> str:
    match = KEY.search(line)
    key = match[1] if match else ""
    given = [override.partition("=")[0] for override in overrides]
    if not key or any(f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in given):
        return ""
    places = ((layer.name, line_of(layer.text, key)) for layer in reversed(layers))
    return next((f" ({name}, line {number})" for name, number in places if number is not None), "")
