"""The code that a config names as ``package.module:name``: where it lies, and its digest. Nothing of it is run here.

A parent package is the exception: Python can find ``package.module`` only after it has imported ``package``. Therefore
``came_with`` looks at each package before it is imported.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING

from dist_train.config.user_code import is_own
from dist_train.errors import ConfigError
from dist_train.system.files import sha256_of
from dist_train.system.private_folder import is_foreign

if TYPE_CHECKING:
    from dist_train.config.schema import Config


@dataclass(frozen=True)
class NamedCode:
    """``spec`` is ``package.module:name``; ``key`` is the config key that holds it."""

    key: str
    spec: str

    @property
    def module(self) -> str:
        return self.spec.partition(":")[0]


def named_code(cfg: "Config") -> list[NamedCode]:
    """Return all code that a config names, in the order of its sections."""
    named = [
        ("model.name", cfg.model.name if is_own(cfg.model.name) else None),
        ("data.format", cfg.data.format),
        *(("augment.ops", entry.name) for entry in cfg.augment.ops),
        ("loss.name", cfg.loss.name),
        ("loss.objective", cfg.loss.objective),
        ("schedule.name", cfg.schedule.name),
        *(("eval.metric", name) for name in (cfg.eval.metric, *cfg.eval.metrics)),
        *(("log.loggers", entry.name) for entry in cfg.log.loggers),
        *(("hooks", entry.name) for entry in cfg.hooks),
    ]
    return [NamedCode(key, spec) for key, spec in named if spec is not None and ":" in spec]


def came_with(run: Path, code: NamedCode) -> Path | None:
    """Return from where Python would import the code, if that came with a run folder; None if it is the user's own.

    It came with the run if it lies in or under the run folder, or beside it (in or under the folder that contains the run)
    and belongs to another user.
    """
    for place in _places(code.module):
        if _is_under(place, run) or (_is_under(place, Path(os.path.realpath(run)).parent) and is_foreign(place)):
            return place
    return None


def refuse_code_of_the_run(run: Path, cfg: "Config") -> None:
    """Refuse a config that names code which came with its run folder: it would run with the user's rights.

    Raises:
        ConfigError: the config names such code.
    """
    for code in named_code(cfg):
        place = came_with(run, code)
        if place is not None:
            raise ConfigError(
                f"`{code.key}` ({code.spec}) of {run} is code that came with the run folder: {place}. It would "
                "run with your rights; read it, and then allow it with --trust (in Python: load_run(..., trust=True))"
            )


def digest_of(code: NamedCode) -> str | None:
    """Return the SHA-256 of the file that contains the code; None if it is no file. Imports the packages around it."""
    found = _found(code.module)
    try:
        return sha256_of(Path(found.origin)) if found and found.origin else None
    except OSError:
        return None


def _places(module: str) -> Iterator[Path]:
    """Yield where Python finds each package of a module, and the module. A package is imported after it was yielded."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        found = _found(".".join(parts[:count]))
        if found is None:
            return
        # A package without __init__.py lies in several folders, and has no origin.
        yield from map(Path, found.submodule_search_locations or ())
        if found.origin and found.has_location:
            yield Path(found.origin)


def _found(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a program's own `__main__` has no spec
        loaded = getattr(sys.modules.get(module), "__file__", None)
        return importlib.util.spec_from_file_location(module, loaded) if loaded else None


def _is_under(place: Path, folder: Path) -> bool:
    """Return whether a file, or a link to it, is in a folder or in a folder below it."""
    home = os.path.realpath(folder)
    names = (os.path.realpath(place), os.path.join(os.path.realpath(place.parent), place.name))
    return any(os.path.commonpath((name, home)) == home for name in names)
