"""``launch/compare.py``: table, order, files, runs that are left out."""

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dist_train.run.folder import RunDir
from launch import compare
from tests.launch.run_folders import SCRIPT, make_run, run_script, table_of


def test_the_table_has_only_the_settings_that_differ_best_run_first(tmp_path: Path) -> None:
    make_run(tmp_path, "low", lr=0.01, top1=40.0)
    make_run(tmp_path, "high", lr=0.1, top1=60.0, attempts=3)
    done = run_script(tmp_path / "*")
    first, second = table_of(done.stdout)
    assert list(first)[:3] == ["name", "best.top1", "optim.lr"]
    assert (first["name"], first["optim.lr"], first["best.top1"], first["last.top1"]) == ("high", "0.1", "60", "55")
    assert (first["restarts"], first["steps"], first["status"]) == ("2", "4", "done")
    assert second["name"] == "low"
    assert not [key for key in first if key.startswith(("run.", "log.", "versions."))]
    assert (done.returncode, done.stderr) == (0, "")


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
        (lambda run: run.config.write_text("words"), "config.yaml has no sections"),
        (lambda run: run.result.write_text('{"status": "do'), "result.json cannot be read"),
        (lambda run: run.metrics.write_bytes(b"\0\0\0\n"), "metrics.jsonl has no readable row"),
        (lambda run: run.result.write_text("[1]"), "result.json cannot be read"),
        (lambda run: run.provenance.write_text('{"attempts": 3}'), "its files have unexpected content (TypeError"),
        (lambda run: run.metrics.write_text('{"split": "val", "step": 1e999}\n'), "metrics.jsonl has no readable row"),
    ],
)
def test_a_damaged_run_is_named_and_left_out(tmp_path: Path, damage: Any, reason: str) -> None:
    make_run(tmp_path, "good")
    damage(make_run(tmp_path, "bad"))
    done = run_script(tmp_path / "*")
    assert [row["name"] for row in table_of(done.stdout)] == ["good"]
    assert f"left out: {tmp_path / 'bad'}: {reason}" in done.stderr
    assert done.returncode == 0


def test_a_folder_of_runs_is_told_from_a_run(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "a")
    done = run_script(tmp_path / "runs")
    assert done.returncode == 1
    assert f"this folder contains runs: use {tmp_path}/runs/*" in done.stderr


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    done = run_script(tmp_path / "missing")
    assert done.returncode == 1
    assert "missing: it does not exist" in done.stderr
    assert done.stdout == ""


def test_it_says_what_it_wrote(tmp_path: Path) -> None:
    make_run(tmp_path, "run")
    done = run_script(tmp_path / "run", "--csv", tmp_path / "t.csv", "--html", tmp_path / "p.html")
    assert done.stdout.endswith(f"table: {tmp_path}/t.csv\npage: {tmp_path}/p.html\n")


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


def test_a_reader_that_leaves_early_costs_no_file(tmp_path: Path) -> None:
    run, page = make_run(tmp_path, "a"), tmp_path / "page.html"
    command = f"{sys.executable} {SCRIPT} {run.path} --html {page} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert page.exists()


def test_a_picture_of_an_unknown_format_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare.main([str(tmp_path), "--png", "p.foo"])
    assert "--png (p.foo) must end in one of .png, .svg, .pdf" in capsys.readouterr().err


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


def test_an_unknown_column_names_the_nearest(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    done = run_script(tmp_path / "*", "--sort", "optim.lrr")
    assert done.returncode == 2
    assert "did you mean optim.lr?" in done.stderr
    best = run_script(tmp_path / "*", "--sort", "top1")
    assert "did you mean best.top1?" in best.stderr
