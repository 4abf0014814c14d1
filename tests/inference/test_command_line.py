"""What the commands on trained runs share."""

import subprocess
import sys
from pathlib import Path

import pytest

from dist_train.errors import DataError
from dist_train.inference.command_line import reported, run_parser


def test_the_first_arguments() -> None:
    args = run_parser("predict", "").parse_args(["runs/a", "--weights", "last"])
    assert (args.run, args.weights) == (Path("runs/a"), "last")
    several = run_parser("evaluate", "", several=True).parse_args(["runs/a", "runs/b"])
    assert (several.runs, several.weights) == ([Path("runs/a"), Path("runs/b")], "best")


def test_an_error_is_printed_and_gives_2(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise DataError("there is nothing")

    assert reported(fails) == 2
    assert capsys.readouterr().err == "error: there is nothing\n"
    assert reported(lambda: 3) == 3


def test_a_reader_may_leave_early() -> None:
    code = (
        "import sys; from dist_train.inference.command_line import reported; "
        "sys.exit(reported(lambda: [print('x' * 9999) for _ in range(99)] and 0))"
    )
    command = f"'{sys.executable}' -c \"{code}\" | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
