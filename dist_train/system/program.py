"""The command by which the user started this program, for usage lines and hints; the parser of its options."""

import argparse
import difflib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from dist_train.system.imports.late_compiler import import_compiler_late
from dist_train.system.streams import open_missing
from dist_train.system.terminal import piped

OVERRIDE = re.compile(r"--?(\w+(?:\.\w+)+)(=.*)?")
"""A setting of the config, written as an option: ``--optim.lr=0.1``."""


class Parser(argparse.ArgumentParser):
    """A parser that says what an option that it does not know may have been meant to be."""

    def error(self, message: str) -> NoReturn:
        """Print usage, message and hint, and exit with 2."""
        _, unknown, words = message.partition("unrecognized arguments: ")
        word = next((word for word in words.split() if word.startswith("-")), "")
        super().error(message + (self._meant(word) if unknown and word else ""))

    def _meant(self, word: str) -> str:
        options = [name for action in self._actions for name in action.option_strings]
        takes_settings = any(action.dest == "overrides" for action in self._actions)
        setting = OVERRIDE.fullmatch(word)
        if setting and (takes_settings or "--set" in options):
            return f"; write {'' if takes_settings else '--set '}{setting[1]}{setting[2] or '=VALUE'}"
        names = {name.strip("-"): name for name in options}
        near = difflib.get_close_matches(word.partition("=")[0].strip("-"), names, n=1, cutoff=0.7)
        if near:
            return f"; did you mean {names[near[0]]}?"
        return "; write a setting of the config as key.path=value, such as optim.lr=1e-4" if takes_settings else ""


def program(command: str = "") -> str:
    """Return ``dist-train evaluate`` or ``python -m dist_train evaluate``; without ``command``, only the program."""
    called = "dist-train" if Path(sys.argv[0]).name == "dist-train" else "python -m dist_train"
    return f"{called} {command}".strip()


def run_program(main: Callable[[list[str]], int]) -> int:
    """Run ``python -m dist_train.NAME`` as ``python -m dist_train NAME`` runs. Return the exit code."""
    open_missing()
    import_compiler_late()
    return piped(lambda: main(sys.argv[1:]))
