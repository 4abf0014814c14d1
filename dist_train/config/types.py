"""The types of config values."""

import itertools
import os
import re
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Level = Annotated[int, Field(ge=0, le=255)]


Size = tuple[int, int]
"""Height and width in pixels."""

MAX_PIXELS = 178_956_970
"""Pillow's own limit."""

CALLABLE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
"""``package.module:name``."""


HUBS = ("hf-hub:", "hf_hub:", "local-dir:")
"""What timm takes in front of a name, for models that it fetches from elsewhere."""


OF_A_RUN = "of_a_run"
"""Key of the validation's context: true for a config that a run has recorded."""


def _own_class(value: str) -> str:
    if not CALLABLE.fullmatch(value):
        raise ValueError(f"{value!r} must be package.module:Class, such as my_code.parts:MyClass")
    return value


OwnClass = Annotated[str, AfterValidator(_own_class)]
"""``package.module:Class`` of the user's."""


def _path(value: str, info: ValidationInfo) -> str:
    expanded = os.path.expanduser(os.path.expandvars(value))
    if not expanded and not (info.context or {}).get(OF_A_RUN):  # what a run has recorded was once allowed
        raise ValueError(f"{value!r} is an empty path (an empty variable?); the current folder is `.`")
    return expanded


FilePath = Annotated[str, AfterValidator(_path)]
"""A path in which ``~`` and ``$VARIABLE`` are expanded as in a shell. It is not empty."""

REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.")


def is_remote(path: str) -> bool:
    """Return whether a path is that of another machine, such as ``s3://bucket/folder``."""
    return REMOTE.match(path) is not None


LARGEST_SIDE = 16_384
IMAGE_SIZES = (
    f"the side of a square or [height, width], in whole pixels up to {LARGEST_SIDE:,}, such as 224 or [224, 320]"
)


def image_size(value: Any, others: tuple[str | None, ...]) -> Any:
    """Return an ``ImageSize`` or one of ``others``; raise ``ValueError`` for anything else."""
    sides = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    if value not in others and any(type(side) is not int or not 1 <= side <= LARGEST_SIDE for side in sides):
        words = "".join(f"{word}, or " for word in others if word is not None)
        raise ValueError(f"{list(value) if isinstance(value, tuple) else value!r} must be {words}{IMAGE_SIZES}")
    return value


def size_or(*others: str | None) -> BeforeValidator:
    """Return what checks an ``ImageSize`` that may also be one of ``others``; one message for all that is wrong."""
    return BeforeValidator(lambda value: image_size(value, others))


Side = Annotated[PositiveInt, Field(le=LARGEST_SIDE)]
"""The side of an image in pixels."""

ImageSize = PositiveInt | tuple[PositiveInt, PositiveInt]
"""The side of a square, or height and width, in pixels. Use it with ``size_or``."""


UNPUBLISHED = (
    "`data.{}` is missing: no model is published with those of {} channels; `dist-train statistics --config FILE` computes mean "
    "and standard deviation of your training images"
)
"""What to say of a key, and of the number of channels."""


def height_and_width(size: int | Size) -> Size:
    """Return the height and width of an ``ImageSize``."""
    return (size, size) if isinstance(size, int) else size


def in_pixels(size: Size) -> str:
    """Return a size in words, such as ``224 x 320 px``: the height comes first, as in the config."""
    return f"{size[0]} x {size[1]} px"


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


def _texts_below_names(section: type[Any]) -> dict[str, str]:
    import ast
    import inspect
    import textwrap

    try:
        source = inspect.getsource(section)
    except OSError:  # an installation without source files
        return {}
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        name.id: inspect.cleandoc(text)
        for key, below in itertools.pairwise(definition.body)
        if isinstance(key, ast.AnnAssign) and isinstance(name := key.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(text := below.value.value, str)
    }


class Section(BaseModel):
    """A section of the config. Unknown keys, wrong types, inf and NaN are errors. An instance is frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,
        model_title_generator=_section_name,
        field_title_generator=lambda name, _: name,
    )

    @classmethod
    def usual(cls) -> Self:
        """Return the section with its defaults. Unlike ``cls()``, it does not build a validator of this section alone."""
        return cls.model_construct()

    @classmethod
    def abouts(cls) -> dict[str, str]:
        """Return what the text below each key says.

        pydantic's ``use_attribute_docstrings`` reads the source of every section at import, which is a third of ``--help``.
        """
        found: dict[str, str] = {}
        for section in reversed(cls.__mro__):
            if issubclass(section, Section) and section is not Section:
                found |= _texts_below_names(section)
        return found

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        section = handler(schema)
        properties = handler.resolve_ref_schema(section).get("properties", {})
        for name, about in cls.abouts().items():
            if name in properties:
                properties[name]["description"] = about
        return section


class ShortSection(Section):
    """A section that may be written as one value, that of ``main``: the other keys then have their defaults."""

    main: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _of_one_value(cls, value: Any) -> Any:
        return value if isinstance(value, dict | cls) else {cls.main: value}

    @model_serializer(mode="wrap")
    def _as_one_value(self, handler: SerializerFunctionWrapHandler) -> Any:
        """Return one value where that says all, so that a config reads, and compares, as before the section was there."""
        whole = handler(self)
        fields = {name: field for name, field in type(self).model_fields.items() if name != self.main}
        short = all(getattr(self, name) == field.default for name, field in fields.items())
        return whole[self.main] if short else whole

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        section = super().__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [handler.resolve_ref_schema(section)["properties"][cls.main], section]}
