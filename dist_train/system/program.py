"""The command by which the user started this program, for usage lines and hints."""

import sys
from pathlib import Path


def program(command: str = "") -> str:
    """Return ``dist-train evaluate`` or ``python -m dist_train evaluate``; without ``command``, only the program."""
    called = "dist-train" if Path(sys.argv[0]).name == "dist-train" else "python -m dist_train"
    return f"{called} {command}".strip()
