"""What ``--print-config`` prints: the values that differ from the defaults, or all values."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel

from dist_train.config.schema import Config
from dist_train.config.yaml_text import to_yaml

Extent = Literal["changes", "all"]
EXTENTS: tuple[Extent, ...] = get_args(Extent)

REST = "# Every other key has its default: --print-config all\n"


def printed(cfg: Config, extent: Extent) -> str:
    """Return YAML text from which ``load_config`` reads an equal config.

    Args:
        extent: changes: the values that differ from the defaults. all: every value, below one line about its section.
    """
    if extent == "changes":
        return to_yaml(changes(cfg)) + REST
    values = cfg.model_dump(mode="json")
    abouts = Config.abouts()
    return "\n".join(f"# {abouts[name]}\n{to_yaml({name: values[name]})}" for name in values)


def changes(cfg: Config) -> dict[str, Any]:
    """Return the values that differ from the defaults, as a tree of plain values."""
    return _changes(cfg, cfg.model_dump(mode="json"))


def printing(argv: Sequence[str]) -> list[str]:
    """Return a command line in which ``--print-config`` has its extent: argparse would take an override for it."""
    following = [*argv, ""][1:]
    return [
        "--print-config=changes" if word == "--print-config" and after not in EXTENTS else word
        for word, after in zip(argv, following, strict=True)
    ]


def _changes(section: BaseModel, values: dict[str, Any]) -> dict[str, Any]:
    """Return those of ``values``, the dumped ``section``, that differ from the defaults.

    An optional section that is there counts, even with defaults only: without it the config would have none.
    """
    found: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel) and isinstance(values[name], dict):  # not a section that is one value
            inner = _changes(value, values[name])
            if inner or field.default is None:
                found[name] = inner
        elif field.is_required() or value != field.default:
            found[name] = values[name]
    return found
