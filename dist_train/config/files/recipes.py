"""The recipes that every installation contains: parts of a config that a user's file builds on with ``base: recipes/NAME``."""

import difflib
from pathlib import Path

from dist_train.errors import ConfigError

PREFIX = "recipes/"
FOLDER = Path(__file__).parents[2] / "recipes"


def names() -> list[str]:
    """Return the names of all recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def listing() -> str:
    """Return one line per recipe: its name and its purpose, which is the comment in the first line of its file."""
    firsts = {name: recipe(name).partition("\n")[0] for name in names()}
    return "\n".join(f"{name:21}{first.lstrip('# ')}" for name, first in firsts.items())


def recipe(name: str) -> str:
    """Return the text of a recipe.

    Raises:
        ConfigError: no recipe has this name.
    """
    return path_of(name, "--recipes").read_text(encoding="utf-8")


def path_of(name: str, asked_by: str) -> Path:
    """Return the file of a recipe.

    Args:
        asked_by: the option or key that names it, for messages.

    Raises:
        ConfigError: no recipe has this name.
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of: {', '.join(known)}"
        raise ConfigError(f"{asked_by} {name}: no recipe has this name; {hint}")
    return FOLDER / f"{name}.yaml"
