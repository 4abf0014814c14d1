"""The commands that follow training, run in this process on a tiny run."""

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

import torch


def call(main: Callable[[list[str]], int], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False
    return code, out.getvalue(), err.getvalue()


def help_takes_no_torch(module: str) -> str:
    """The text of ``--help``, from a process in which importing torch is an error."""
    import subprocess

    code = (
        "import sys, runpy; sys.modules['torch'] = None; "
        f"sys.argv = ['{module}', '--help']; runpy.run_module('dist_train.{module}', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    return done.stdout
