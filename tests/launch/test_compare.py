"""``launch/compare.py`` on run folders written by the same code that the trainer uses."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.config import parse_config
from dist_train.run.folder import RunDir
from dist_train.run.predictions import Predictions, load_predictions, pack_predictions
from dist_train.run.provenance import begin_attempt
from dist_train.run.result import Result, write_result
from launch import compare
from launch.compare_predictions import pairs_of
from launch.run_reader import differing_keys, read_run, sort_runs

SCRIPT = Path(__file__).parents[2] / "launch" / "compare.py"


def make_run(
    output_dir: Path, name: str, lr: float = 0.1, top1: float = 50.0, attempts: int = 1, **result: Any
) -> RunDir:
    """Four steps and two evaluations; the first is the best one."""
    tree: dict[str, Any] = {
        "run": {"name": name, "output_dir": str(output_dir)},
        "model": {"name": "resnet18"},
        "data": {"root": "data"},
        "optim": {"lr": lr},
        "train": {"global_batch": 8},
    }
    cfg = parse_config(tree)
    run = RunDir.of(cfg)
    run.path.mkdir(parents=True)
    for _ in range(attempts):
        begin_attempt(run, cfg, world_size=2, hosts=["here"])
    rows: list[dict[str, Any]] = [
        {"step": step, "epoch": step / 2, "split": "train", "loss": 1 / step, "images_per_s": 16.0}
        for step in (1, 2, 3, 4)
    ]
    scores = [{"step": 2, "loss": 0.5, "top1": top1}, {"step": 4, "loss": 0.6, "top1": top1 - 5}]
    rows += [{"epoch": 1.0, "split": "val", "seconds": 0.25} | row for row in scores]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    best, last = scores
    write_result(run, Result(**{"status": "done", "attempt": attempts, "step": 4, "best": best, "last": last} | result))
    return run


def run_script(*args: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *map(str, args)], capture_output=True, text=True, timeout=60)


def table_of(text: str) -> list[dict[str, str]]:
    head, *lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def page_data(html: Path) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html.read_text(), re.DOTALL)
    return dict(json.loads(text))


def test_the_table_has_only_the_settings_that_differ_best_run_first(tmp_path: Path) -> None:
    make_run(tmp_path, "low", lr=0.01, top1=40.0)
    make_run(tmp_path, "high", lr=0.1, top1=60.0, attempts=3)
    done = run_script(tmp_path / "*")
    first, second = table_of(done.stdout)
    assert list(first)[:3] == ["name", "optim.lr", "best.top1"]
    assert (first["name"], first["optim.lr"], first["best.top1"], first["last.top1"]) == ("high", "0.1", "60", "55")
    assert (first["restarts"], first["steps"], first["status"]) == ("2", "4", "done")
    assert second["name"] == "low"
    assert not [key for key in first if key.startswith(("run.", "log.", "versions."))]
    assert (done.returncode, done.stderr) == (0, "")


def test_time_and_rate_come_from_the_rows_of_all_attempts(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", attempts=2, wall_s=0.1)
    results = read_run(run.path).results
    assert results["time_s"] == pytest.approx(4 * 8 / 16 + 2 * 0.25)
    assert results["images_per_s"] == pytest.approx(16)


def test_no_torch_and_no_wandb_is_imported(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", lr=0.2)
    code = (
        f"import sys; sys.argv[0] = {str(SCRIPT)!r}; sys.path.insert(0, {str(SCRIPT.parents[1])!r})\n"
        "from launch.compare import main\n"
        f"assert main([{str(tmp_path / '*')!r}, '--html', {str(tmp_path / 'page.html')!r}]) == 0\n"
        "print(sorted({'torch', 'wandb', 'matplotlib', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda run: run.config.unlink(), "there is no config.yaml"),
        (lambda run: run.config.write_text("a: [1"), "config.yaml cannot be read"),
        (lambda run: run.config.write_text("words"), "config.yaml holds no sections"),
        (lambda run: run.result.write_text('{"status": "do'), "result.json cannot be read"),
        (lambda run: run.metrics.write_bytes(b"\0\0\0\n"), "metrics.jsonl holds no row"),
        (lambda run: run.result.write_text("[1]"), "its files do not hold what a run's do (AttributeError"),
        (lambda run: run.provenance.write_text('{"attempts": 3}'), "its files do not hold what a run's do (TypeError"),
        (lambda run: run.metrics.write_text('{"split": "val", "step": 1e999}\n'), "metrics.jsonl holds no row"),
    ],
)
def test_a_damaged_run_is_named_and_left_out(tmp_path: Path, damage: Any, reason: str) -> None:
    make_run(tmp_path, "good")
    damage(make_run(tmp_path, "bad"))
    done = run_script(tmp_path / "*")
    assert [row["name"] for row in table_of(done.stdout)] == ["good"]
    assert f"left out: {tmp_path / 'bad'}: {reason}" in done.stderr
    assert done.returncode == 0


def test_the_page_takes_numbers_that_json_does_not_know(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    wild = make_run(tmp_path, "b", top1=float("nan"))
    wild.config.write_text(wild.config.read_text().replace("clip_grad: null", "clip_grad: .inf"))
    wild.metrics.write_text('{"step": 1, "epoch": NaN, "split": "train", "loss": Infinity}\n')
    done = run_script(tmp_path / "*", "--html", tmp_path / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    page = page_data(tmp_path / "page.html")["runs"][1]
    assert page["settings"]["train.clip_grad"] == "inf"
    assert page["curves"]["train/loss"] == [[1, None, None]]


def test_a_folder_of_runs_is_told_from_a_run(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "a")
    done = run_script(tmp_path / "runs")
    assert done.returncode == 1
    assert f"it is a folder of runs: name them, as {tmp_path}/runs/*" in done.stderr


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    done = run_script(tmp_path / "missing")
    assert done.returncode == 1
    assert "no such folder" in done.stderr
    assert done.stdout == ""


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
    done = run_script(tmp_path / "*", "--sort", "optim.lrr")
    assert done.returncode == 2
    assert "did you mean optim.lr?" in done.stderr


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


def test_csv(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "a", lr=0.2)
    make_run(tmp_path / "runs", "b", lr=0.1, top1=70.0)
    assert run_script(tmp_path / "runs" / "*", "--csv", tmp_path / "out" / "t.csv").returncode == 0
    with open(tmp_path / "out" / "t.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["optim.lr"], row["best.top1"]) for row in rows] == [
        ("b", "0.1", "70.0"),
        ("a", "0.2", "50.0"),
    ]


def test_the_page_stands_alone_and_no_name_can_break_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", lr=0.2)
    run.config.write_text(run.config.read_text().replace("resnet18", "'</script><b>'"))
    with open(run.metrics, "a") as file:
        file.write('{"step": 5, "epoch": 2.5, "split": "train", "loss": NaN}\n')
    make_run(tmp_path, "b")
    page = tmp_path / "page.html"
    assert run_script(tmp_path / "*", "--html", page).returncode == 0
    text = page.read_text()
    assert "</script><b>" not in text
    links = set(re.findall(r"https?://[^\"'\s]+|(?:src|href)=[^>]+", text))
    assert links == {"http://www.w3.org/2000/svg"}  # a name, not an address that is fetched
    data = page_data(page)
    assert data["settingKeys"] == ["model.name", "optim.lr"]
    curves = {entry["name"]: entry["curves"] for entry in data["runs"]}
    assert curves["b"]["val/top1"] == [[2, 1.0, 50.0], [4, 1.0, 45.0]]
    assert curves["a"]["train/loss"][-1] == [5, 2.5, None]


def test_a_reader_that_leaves_early_costs_no_file(tmp_path: Path) -> None:
    run, page = make_run(tmp_path, "a"), tmp_path / "page.html"
    command = f"{sys.executable} {SCRIPT} {run.path} --html {page} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert page.exists()


def test_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", lr=0.2)
    assert compare.main([str(tmp_path / "*"), "--png", str(tmp_path / "p.png")]) == 0
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_png_without_matplotlib_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as left:
        compare.main([str(tmp_path), "--png", str(tmp_path / "p.png")])
    assert left.value.code == 2
    assert "--png needs matplotlib: pip install matplotlib" in capsys.readouterr().err


def test_two_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs, _ = compare.read_runs([str(make_run(tmp_path / side, "same").path) for side in "xy"])
    assert [run.name for run in runs] == [str(tmp_path / side / "same") for side in "xy"]


class TestDisagreement:
    def save(self, run: RunDir, pred: list[int], label: list[int], paths: list[str]) -> None:
        run.predictions.write_bytes(pack_predictions(Predictions(2, np.array(pred), np.array(label), paths)))
        run.classes.write_text('["cat", "dog"]')

    def test_which_classes_and_images(self, tmp_path: Path) -> None:
        a, b = make_run(tmp_path, "a", top1=90.0), make_run(tmp_path, "b")
        names = [f"val/{index}.png" for index in range(4)]
        self.save(a, [0, 0, 1, 1], [0, 0, 1, 1], names)
        self.save(b, [0, 1, 1, 1], [0, 0, 1, 1], names)
        page = tmp_path / "page.html"
        assert run_script(a.path, b.path, "--html", page).returncode == 0
        (pair,) = page_data(page)["pairs"]
        assert [pair[key] for key in ("a", "b", "images", "same", "both_right", "only_a", "only_b", "both_wrong")] == [
            "a",
            "b",
            4,
            3,
            3,
            1,
            0,
            0,
        ]
        assert pair["classes"] == [["cat", 2, 1.0, 0.5, -0.5]]
        assert pair["shown"] == [["val/1.png", "cat", "cat", "dog"]]

    def test_without_names_a_class_is_its_number(self, tmp_path: Path) -> None:
        a, b = make_run(tmp_path, "a"), make_run(tmp_path, "b")
        self.save(a, [0, 1], [0, 1], [])
        self.save(b, [0, 5], [0, 1], [])  # a class that the first run never says
        a.classes.unlink()
        (pair,) = pairs_of([read_run(a.path), read_run(b.path)])
        assert pair.shown == [["#1", "class 1", "class 1", "class 5"]]

    def test_other_images_are_not_compared(self, tmp_path: Path) -> None:
        a, b, c = (make_run(tmp_path, name) for name in "abc")
        self.save(a, [0, 1], [0, 1], ["x", "y"])
        self.save(b, [0, 1], [0, 1], ["x", "z"])
        c.predictions.write_bytes(b"no zip")
        assert load_predictions(c.predictions) is None
        assert pairs_of([read_run(run.path) for run in (a, b, c)]) == []


def test_a_hundred_runs_are_quick(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", "r000")
    row = {"epoch": 1.0, "split": "train", "loss": 1.0, "images_per_s": 16.0, "lr": 0.1, "grad_norm": 1.0}
    with open(run.metrics, "a") as file:
        file.writelines(json.dumps({"step": step} | row) + "\n" for step in range(5, 305))
    for index in range(1, 100):
        copy = RunDir(Path(shutil.copytree(run.path, tmp_path / "runs" / f"r{index:03d}")))
        copy.config.write_text(run.config.read_text().replace("lr: 0.1\n", f"lr: {0.001 * index}\n"))
    began = time.process_time()
    assert compare.main([str(tmp_path / "runs" / "*"), "--html", str(tmp_path / "page.html")]) == 0
    assert time.process_time() - began < 10
