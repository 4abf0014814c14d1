"""What a run records: columns of its rows, ``result.json``, log lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import changed, train


def all_rows(run: Path, split: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == split]


@pytest.mark.parametrize("world_size", [1, 2])
def test_the_columns_of_a_row(tree: dict[str, Any], world_size: int) -> None:
    run = train(changed(tree, train__precision="amp_fp16"), world_size)
    of_ranks = {"data_wait_max", "slowest_rank", "slowest_ratio"} if world_size > 1 else set()
    for row in all_rows(run, "train"):
        assert row.keys() - of_ranks == {
            "step", "epoch", "split", "loss", "lr", "grad_norm", "images_per_s", "data_wait", "loss_scale", "skipped_steps"
        }  # fmt: skip
        assert of_ranks <= row.keys()
    for row in all_rows(run, "val"):
        assert row.keys() == {"step", "epoch", "split", "loss", "top1", "top5", "macro_f1", "seconds"}
    assert [row["epoch"] for row in all_rows(run, "val")] == [1.0, 2.0]


def test_the_speed_leaves_evaluations_and_saves_out(tree: dict[str, Any]) -> None:
    run = train(changed(tree, checkpoint__every_steps=1), train__epochs=3)
    result = json.loads((run / "result.json").read_text())
    steps_s = 15 * 12 / result["images_per_s"]
    assert 0 < steps_s < result["wall_s"]
    assert sum(row["seconds"] for row in all_rows(run, "val")) < result["wall_s"] - steps_s


def test_a_run_says_where_it_begins_and_what_comes_next(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tree, 2)
    printed = capsys.readouterr().out
    head, tail = printed.split("step 2/10")
    head = " ".join(head.split())  # a long path wraps its line
    for words in ("run: ", "a new run", "device: 2 x CPU", "test_vit at 32 px", "3 classes: class_a, class_b, class_c",
                  "20 training images per", "10 steps = 2 epochs"):  # fmt: skip
        assert head.count(words) == 1, "rank 0 alone says it"
    assert "done: 10 of 10 steps; best top1" in tail
    assert tail.rstrip().splitlines()[-1] == f"      python -m dist_train.export {run}"


def test_a_resumed_run_says_how_many_steps_are_done_again(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tree, train__epochs=1)
    with open(run / "metrics.jsonl", "a") as file:  # as if killed two steps after the checkpoint
        file.write('{"step": 7, "epoch": 1.4, "split": "train", "loss": 1.0}\n')
    capsys.readouterr()
    train(tree, train__epochs=2)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"run: {run}, continues at step 5 of 10; 2 steps are repeated" in printed
    assert [row["step"] for row in all_rows(run, "train")] == [2, 4, 5, 6, 8, 10]


def test_early_stopping_is_said(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    stopping = {"patience": 1, "min_delta": 1000.0}
    train(tree, train__epochs=9, train__early_stopping=stopping)
    assert "done early, at step 10 of 45: `top1` no longer improves" in " ".join(capsys.readouterr().out.split())
