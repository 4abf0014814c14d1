"""The types of config values."""

import os
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Level = Annotated[int, Field(ge=0, le=255)]


MAX_PIXELS = 178_956_970
"""Pillow's own limit."""

CALLABLE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
"""``package.module:name``."""


def _own_class(value: str) -> str:
    if not CALLABLE.fullmatch(value):
        raise ValueError(f"{value!r} must be package.module:Class, such as my_code.parts:MyClass")
    return value


OwnClass = Annotated[str, AfterValidator(_own_class)]
"""``package.module:Class`` of the user's."""


def _path(value: str) -> str:
    return os.path.expanduser(os.path.expandvars(value))


FilePath = Annotated[str, AfterValidator(_path)]
"""A path in which ``~`` and ``$VARIABLE`` are expanded as in a shell."""


def seconds_of(walltime: str) -> int:
    """Return the seconds in a SLURM-style ``[days-]hours:minutes:seconds``, ``minutes:seconds`` or ``minutes``.

    >>> seconds_of("1-00:00:30")
    86430
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+)(?::(\d+))?", walltime)
    if not match:
        raise ValueError(f"{walltime!r} is not a walltime: write [days-]hours:minutes:seconds, such as 0:30:00")
    days, first, second, third = match.groups()
    if third is not None:  # h:m:s
        hours, minutes, seconds = int(first or 0), int(second), int(third)
    elif days is not None:  # d-h[:m]
        hours, minutes, seconds = (int(first), int(second), 0) if first else (int(second), 0, 0)
    else:  # m[:s]
        hours, minutes, seconds = 0, int(first or second), int(second) if first else 0
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _walltime(value: str) -> str:
    if seconds_of(value) == 0:
        raise ValueError(f"{value!r} must be more than 0 seconds; write [days-]hours:minutes:seconds, such as 0:30:00")
    return value


Walltime = Annotated[str, AfterValidator(_walltime)]


def _section_name(section: type[Any]) -> str:
    return section.__name__.removesuffix("Config").lower()


class Section(BaseModel):
    """A section of the config. Unknown keys, wrong types, inf and NaN are errors. An instance is frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        defer_build=True,
        model_title_generator=_section_name,
        field_title_generator=lambda name, _: name,
    )
