"""Run folders read for a comparison: live, damaged, restarted."""

import json
import os
import time
from pathlib import Path

import pytest

from launch.runs.reader import differing_keys, read_run, sort_runs
from tests.launch.run_folders import make_run


def test_time_and_rate_come_from_the_rows_of_all_attempts(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", attempts=2, wall_s=0.1)
    results = read_run(run.path).results
    assert results["time_s"] == pytest.approx(4 * 8 / 16 + 2 * 0.25)
    assert results["images_per_s"] == pytest.approx(16)


def test_a_live_run_with_half_a_line(tmp_path: Path) -> None:
    run = make_run(tmp_path, "live", status="running")
    with open(run.metrics, "a") as file:
        file.write('{"step": 5, "epoch": 2.5, "sp')
    found = read_run(run.path)
    assert (found.results["status"], found.results["steps"]) == ("running", 4)
    run.metrics.unlink()
    run.result.unlink()
    assert read_run(run.path).results["status"] == "unknown"


def test_a_run_that_went_silent_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, "lost", status="running")
    result = json.loads(run.result.read_text())
    run.result.write_text(json.dumps(result | {"updated": "2020-01-01T00:00:00+0000"}))
    long_ago = time.time() - 7200
    os.utime(run.metrics, (long_ago, long_ago))
    assert read_run(run.path).results["status"] == "running, silent for 2.0 h"


def test_a_step_trained_again_counts_once(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a")
    with open(run.metrics, "a") as file:
        file.write(json.dumps({"step": 4, "epoch": 2.0, "split": "train", "loss": 7.0, "images_per_s": 16.0}) + "\n")
    rows = read_run(run.path).rows["train"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["loss"] == 7.0


def test_sorting(tmp_path: Path) -> None:
    runs = [
        read_run(make_run(tmp_path, name, lr, top1).path)
        for name, lr, top1 in [("b", 10.0, 1.0), ("a", 9.0, 3.0), ("c", 1.0, 2.0)]
    ]
    runs[2].results.pop("best.loss")
    order = {
        key: "".join(run.name for run in sort_runs(runs, key))
        for key in (None, "optim.lr", "-optim.lr", "name", "best.loss")
    }
    assert order == {None: "acb", "optim.lr": "cab", "-optim.lr": "bac", "name": "abc", "best.loss": "bac"}


def test_errors_should_fall_and_nan_is_last(tmp_path: Path) -> None:
    runs = []
    for name, mae in (("worse", 2.0), ("broken", float("nan")), ("better", 1.0)):
        run = make_run(tmp_path, name, best={"step": 2, "mae": mae})
        run.config.write_text(run.config.read_text().replace("metric: top1", "metric: mae"))
        runs.append(read_run(run.path))
    assert [run.name for run in sort_runs(runs, None)] == ["better", "worse", "broken"]


def test_a_setting_that_only_one_run_has_differs(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path, name).path) for name in ("a", "b")]
    assert differing_keys(runs) == []
    runs[1].settings["model.new"] = None
    assert differing_keys(runs) == ["model.new"]


def test_without_a_result_the_best_of_equal_scores_has_the_lower_loss(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", top1=50.0)
    run.result.unlink()
    scores = [(2, 50.0, 0.5), (4, 50.0, 0.4), (6, None, 0.1), (8, 50.0, 0.6)]
    rows = [{"step": step, "epoch": 1.0, "split": "val", "top1": top1, "loss": loss} for step, top1, loss in scores]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_run(run.path).results["best.step"] == 4
