"""A user's logger in whole runs gets every row once, whatever kills the run."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.config import parse_config
from dist_train.drill.faults import Traces, wait_until
from dist_train.loggers.base import Facts, Logger
from dist_train.run.folder import RunDir
from tests.support.forked_start import ForkedStart
from tests.support.ranks import RankFailure, collect, run_ranks, start_ranks
from tests.support.runs import changed, folder, train


def with_own(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    own = [{"name": "tests.support.loggers:RowFile", "options": {"path": str(path)}}]
    tree = changed(tree, model__options={"depth": 2}, log__loggers=own, log__every_steps=1)
    return changed(tree, checkpoint__every_steps=4, train__epochs=24)


def _main(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


@pytest.mark.parametrize("world_size", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_after_kill_and_resume_no_row_is_there_twice_and_none_is_missing(
    tree: dict[str, Any], tmp_path: Path, world_size: int
) -> None:
    own = tmp_path / "own.jsonl"
    tree = with_own(tree, own)
    traces = Traces(RunDir(folder(tree)))
    for _ in range(2):
        reached = traces.reached()
        ranks = start_ranks(world_size, _main, tree)
        assert wait_until(lambda so_far=reached: traces.reached() > so_far + 9, ForkedStart(ranks), 60)
        for process, *_ in ranks:
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(RankFailure):
            collect(ranks, quiet=True)
    assert traces.saved(), "the kills came after a checkpoint"
    train(tree, world_size)
    rows = [json.loads(line) for line in own.read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(1, 121))
    assert [row["step"] for row in rows if row["split"] == "val"] == list(range(5, 121, 5))
    assert own.read_text() == (folder(tree) / "metrics.jsonl").read_text()


def test_it_gets_all_that_a_run_has_to_tell(tree: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    train(changed(with_own(tree, own), train__epochs=1))
    assert own.with_suffix(".log").read_text().splitlines() == [
        "start 0 -1 5 attempt 1",
        "image val/confusion 5 uint8 3",
        "file best.safetensors",
        "file last.safetensors",
        "file predictions.npz",
        "close done",
    ]


def test_a_failing_attempt_is_closed_as_failed(tree: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    wild = changed(with_own(tree, own), optim__lr=1e25)
    assert collect(start_ranks(1, _main, wild)) == [1]
    assert own.with_suffix(".log").read_text().splitlines()[-1] == "close failed"


def test_what_a_checkpoint_keeps(tmp_path: Path) -> None:
    facts = Facts(RunDir(tmp_path), total_steps=10, step=4, evaluated=2)
    kept = [(row["step"], row["split"]) for row in ROWS if facts.keeps(row)]
    assert kept == [(2, "train"), (2, "val"), (4, "train")]


ROWS = [{"step": step, "split": split} for step in (2, 4, 6) for split in ("train", "val")]


def test_every_method_may_be_left_out(tree: dict[str, Any], tmp_path: Path) -> None:
    logger = Logger()
    logger.start(parse_config(tree), Facts(RunDir(tmp_path), total_steps=1))
    logger.tick(1)
    logger.row({"step": 1})
    logger.file(tmp_path)
    logger.close("done")
    assert list(tmp_path.iterdir()) == []


def _main_of_the_page(tree: dict[str, Any], folder: str) -> int:
    sys.path.insert(0, folder)
    return _main(tree)


def test_the_example_of_the_docs_runs(tree: dict[str, Any], tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "loggers.md").read_text()
    code, config = (page.split(f"```{kind}\n")[1].split("```")[0] for kind in ("python", "yaml"))
    (tmp_path / "my_loggers.py").write_text(code)
    losses = tmp_path / "losses.txt"
    own = yaml.safe_load(config.replace("losses.txt", str(losses)))["log"]["loggers"]
    tree = changed(tree, log__loggers=own, schedule__name="constant")
    for epochs in (1, 2):
        assert run_ranks(1, _main_of_the_page, changed(tree, train__epochs=epochs), str(tmp_path)) == [0]
    assert [line.split()[0] for line in losses.read_text().splitlines()] == ["2", "4", "5", "6", "8", "10"]
