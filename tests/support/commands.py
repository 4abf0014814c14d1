"""The commands that follow a training, each in its own process."""

import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.ranks import run_ranks


def call(main: Callable[[list[str]], int], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    (result,) = run_ranks(1, _captured, main, [str(argument) for argument in arguments])
    code, out, err = result
    return code, out, err


def _captured(main: Callable[[list[str]], int], arguments: list[str]) -> tuple[int, str, str]:
    out = io.StringIO()
    with tempfile.TemporaryFile("w+") as err:  # a real file: faulthandler writes to its descriptor
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        err.seek(0)
        return code, out.getvalue(), err.read()


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
