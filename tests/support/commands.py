"""Commands, each in a process of its own, which is forked with all imports done."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.ranks import run_ranks

AS_A_COMMAND = "from dist_train.system.imports.late_compiler import import_compiler_late; import_compiler_late()\n"
"""What Python code begins with that imports as the commands do: without the compiler of torch, in less time."""


def call(main: Callable[[list[str]], int], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    (result,) = run_ranks(1, _captured, main, [str(argument) for argument in arguments])
    code, out, err = result
    return code, out, err


def _captured(main: Callable[[list[str]], int], arguments: list[str]) -> tuple[int, str, str]:
    any_bytes = functools.partial(tempfile.TemporaryFile, "w+", errors="surrogateescape")
    with any_bytes() as out, any_bytes() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            code = main(arguments)
        except SystemExit as end:  # of argparse
            code = int(end.code or 0)
        sys.stdout.flush(), sys.stderr.flush(), out.seek(0), err.seek(0)
        return code, out.read(), err.read()


def help_takes_no_torch(module: str) -> str:
    """The text of ``--help``, from a process in which importing torch is an error."""
    code = (
        "import sys, runpy; sys.modules['torch'] = None; "
        f"sys.argv = ['{module}', '--help']; runpy.run_module('dist_train.{module}', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    return done.stdout
