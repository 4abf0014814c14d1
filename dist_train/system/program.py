"""The command by which the user started this program, for usage lines and hints."""

import sys
from collections.abc import Callable
from pathlib import Path

from dist_train.system.imports.late_compiler import import_compiler_late
from dist_train.system.streams import open_missing
from dist_train.system.terminal import piped


def program(command: str = "") -> str:
    """Return ``dist-train evaluate`` or ``python -m dist_train evaluate``; without ``command``, only the program."""
    called = "dist-train" if Path(sys.argv[0]).name == "dist-train" else "python -m dist_train"
    return f"{called} {command}".strip()


def run_program(main: Callable[[list[str]], int]) -> int:
    """Run ``python -m dist_train.NAME`` as ``python -m dist_train NAME`` runs. Return the exit code."""
    open_missing()
    import_compiler_late()
    return piped(lambda: main(sys.argv[1:]))
