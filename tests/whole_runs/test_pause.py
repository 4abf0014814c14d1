"""A run that pauses at an epoch goes on as if it had not."""

import json
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.training.attempt import main
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, rows, state_digest, train


def _main(tree: dict[str, Any]) -> int:
    return main(parse_config(tree))


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_pauses_change_nothing(tree: dict[str, Any], ranks: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Once to pause, once where it already stands there, then to the end."""
    tree = changed(tree, train__epochs=3, schedule__name="cosine", train__ema=0.9)
    straight = train(tree, ranks, run__name="straight")
    tree = changed(tree, run__name="paused")
    for _ in range(2):
        assert set(run_ranks(ranks, _main, changed(tree, train__pause_epoch=1))) == {75}
        result = read_result(RunDir(folder(tree)))
        assert (result["status"], result["step"], result["paused"]) == ("stopped", 5, True)
        assert [row["step"] for row in rows(folder(tree), "val")] == [5]
    assert "train.pause_epoch=1" in capsys.readouterr().out
    train(changed(tree, train__pause_epoch=3), ranks)  # its last epoch: no pause
    result = json.loads((folder(tree) / "result.json").read_text())
    assert (result["status"], result["paused"]) == ("done", False)
    assert state_digest(folder(tree)) == state_digest(straight)
    assert rows(folder(tree)) == rows(straight)


def test_early_stopping_at_the_pause_ends_the_run(tree: dict[str, Any]) -> None:
    stopping = {"patience": 1, "min_delta": 1000.0}
    tree = changed(tree, train__epochs=4, train__pause_epoch=2, train__early_stopping=stopping)
    assert run_ranks(1, _main, tree) == [0]
    assert read_result(RunDir(folder(tree)))["status"] == "done"
