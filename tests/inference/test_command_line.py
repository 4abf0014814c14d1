"""What the commands on trained runs share."""

import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dist_train.errors import CommError, DataError, DistTrainError
from dist_train.inference.command_line import reported, run_parser
from dist_train.system.said_once import PREFIX
from dist_train.system.start import whole_number
from tests.support.ranks import run_ranks


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


def test_an_unexpected_error_of_one_process_is_pythons() -> None:
    with pytest.raises(KeyError, match="a bug"):
        reported(_bug)


def _reported_with(temporary: Path, command: Callable[[], int]) -> int:
    tempfile.tempdir = str(temporary)  # other tests that run now have their own files in the system's
    return reported(command)


def _bug() -> int:
    raise KeyError("a bug")


def _bug_of_rank_1() -> int:
    if whole_number("RANK", 0) != 1:
        raise RuntimeError("gloo: Connection closed by peer")
    raise KeyError("a bug")


def _lost() -> int:
    raise CommError(f"rank {whole_number('RANK', 0)} waited in vain")


def _own_fault() -> int:
    error = DistTrainError("the loader has died" if whole_number("RANK", 0) else "the disk is full")
    error.of_one_rank = True
    raise error


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (_bug, {"KeyError: 'a bug'": 1, r"rank \d failed:": 1, "the same on 2 of 2 ranks": 1}),
        (
            _bug_of_rank_1,
            {
                "rank 1 failed:": 1,
                "KeyError: 'a bug'": 1,
                "rank 0 lost the connection": 1,
                "start the command again": 1,
            },
        ),
        (_lost, {"rank 0 waited in vain": 1, "rank 1 waited in vain": 1, "Traceback": 0}),
        (_own_fault, {"error: the loader has died": 1, "error: the disk is full": 1, "the same on": 0}),
    ],
)
def test_an_error_of_several_ranks_is_printed_once(
    command: Callable[[], int], said: dict[str, int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_ranks(2, partial(_reported_with, tmp_path, command)) == [1, 1]
    printed = capsys.readouterr().out
    assert {words: len(re.findall(words, printed)) for words in said} == said, printed
    assert not list(tmp_path.rglob(f"{PREFIX}*"))


def test_run_folders_are_looked_at_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    paths = [tmp_path / "none", tmp_path / "run"]
    assert reported(lambda: 3, paths) == 3, "one of several can be used"
    assert reported(lambda: 3, paths[:1]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/none is not a run folder: it does not exist")
