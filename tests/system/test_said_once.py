"""An error of several ranks is printed by one of them; an error of one rank by that rank."""

import os
from multiprocessing import get_context
from pathlib import Path

import pytest

from dist_train.system.said_once import PREFIX, remove_marks, say_once


def _fail(folder: Path, rank: int, text: str) -> None:
    os.environ.update({"RANK": str(rank), "WORLD_SIZE": "3", "MASTER_PORT": "1"})
    said = folder / "said"

    def add(line: str) -> None:
        with open(said, "a") as file:
            file.write(f"{rank}: {line}\n")

    say_once(folder / "run", text, lambda: add(text), add)


@pytest.mark.parametrize("folder", [True, False])
@pytest.mark.parametrize("errors", [["a", "a", "a"], ["a", "a", "b"], ["a", "b", "c"]])
def test_the_first_prints(errors: list[str], folder: bool, tmp_path: Path) -> None:
    if folder:
        (tmp_path / "run").mkdir()
    context = get_context("fork")
    ranks = [context.Process(target=_fail, args=(tmp_path, rank, text)) for rank, text in enumerate(errors)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    lines = [line.partition(": ")[2] for line in (tmp_path / "said").read_text().splitlines()]
    if folder:
        several = {text: errors.count(text) for text in errors if errors.count(text) > 1}
        assert sorted(lines) == sorted(
            [*{*errors}, *(f"the same on {number} of 3 ranks" for number in several.values())]
        )
        assert not list((tmp_path / "run").iterdir())
    else:
        assert sorted(lines) == errors


def test_marks_of_a_killed_rank_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}1234").mkdir()
    remove_marks(tmp_path)
    assert not list(tmp_path.iterdir())
