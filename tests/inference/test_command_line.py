"""What the commands on trained runs share."""

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
