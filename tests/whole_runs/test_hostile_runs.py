"""One damaged or hostile run folder takes no other down: not in a comparison, a table, an upload, or a start of its own."""

import csv
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dist_train
from dist_train import evaluate, predict
from dist_train.config import parse_config
from dist_train.errors import DistTrainError
from dist_train.inference.reporting.report import report
from dist_train.system.files import write_json
from dist_train.system.terminal import restored_log
from tests.support.hostile_runs import BOMB, ESCAPE, FORMULA, TEXTS, faults, hostile_copies
from tests.support.images import make_image_folder
from tests.support.pages import Page
from tests.support.runs import changed, train

ROOT = Path(__file__).parents[2]
MEMORY = 3 << 30


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A config and the folder of its run, which is done."""
    folder = tmp_path_factory.mktemp("good")
    tree = {
        "run": {"name": "good", "output_dir": str(folder)},
        "model": {"name": "test_vit", "pretrained": False},
        "data": {"root": str(make_image_folder(folder / "images")), "image_size": 32, "workers": 0},
        "optim": {"lr": 0.05},
        "train": {"epochs": 1, "global_batch": 12},
        "log": {"tensorboard": False, "wandb": {"mode": "disabled"}},
    }
    run = train(tree)
    write_json(run / "launch.json", [{"job": "7", "time": "2026-01-01T00:00:00+0000", "logs": "x"}])
    write_json(
        run / "starts.json",
        [{"job": "7", "restart": 0, "time": "2026-01-01T00:00:00+0000", "step": 0, "stopped_at": None, "why": "w"}],
    )
    return tree, run


KINDS = ("config.yaml bomb", "config.yaml deep", "metrics.jsonl large", "result.json list", "config.yaml pipe")


@pytest.fixture(scope="module", params=[6, pytest.param(1, marks=pytest.mark.slow)])
def runs(
    good: tuple[dict[str, Any], Path], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """A folder with hostile runs between two good ones: some 70, and all 400."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("aa good", "zz good"):
        shutil.copytree(good[1], folder / name, ignore=shutil.ignore_patterns("checkpoints", "*.safetensors"))
    hostile_copies(good[1], folder, request.param, KINDS)
    return folder


def command(*words: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command that may use 3 GiB of memory and a minute."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=280,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.stdout + done.stderr), "terminal escapes"
    return done


def test_compare_names_what_it_leaves_out_and_shows_the_others(runs: Path, tmp_path: Path) -> None:
    files = ("--html", tmp_path / "page.html", "--csv", tmp_path / "table.csv")
    done = command("dist_train", "compare", f"{runs}/*", *files, cwd=tmp_path)
    assert done.returncode == 0
    shown = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert {"aa good", "zz good"} <= set(shown)
    left_out = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert len(left_out) > 8
    for kind in KINDS:
        assert any(kind in line for line in left_out), kind
    with open(tmp_path / "table.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert any(FORMULA in cell for cell in cells)
    assert [cell for cell in cells if cell[:1] in ("=", "+", "@", "\t", "\r")] == []
    text = (tmp_path / "page.html").read_text()
    assert "<img" not in text
    assert not (runs / "owned").exists()
    if node := shutil.which("node"):
        _draws_names_as_text(node, tmp_path / "page.html")


def _draws_names_as_text(node: str, page: Path) -> None:
    script = ROOT / "tests" / "support" / "draw_page.js"
    done = subprocess.run([node, script, page], capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stderr) == (0, "")
    drawn = json.loads(done.stdout)
    assert drawn["rows"] > 20
    assert any("<img src=x" in text for text in drawn["texts"])
    assert not set(drawn["tags"]) & {"img", "script", "iframe"}


@pytest.mark.slow
def test_pictures_of_hostile_names(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    chosen = [path for path in runs.iterdir() if re.search(r"good|names|dictionary|\$x|bytes|types|line", path.name)]
    done = command("dist_train", "compare", *chosen, "--png", tmp_path / "page.png", cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_status_shows_a_line_for_each(runs: Path, tmp_path: Path) -> None:
    done = command("dist_train", "status", runs, cwd=tmp_path)
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if " good" in line]
    assert len(lines) == 2
    assert all("done" in line for line in lines)
    assert len(done.stdout.splitlines()) >= len(list(runs.iterdir()))


@pytest.mark.slow
def test_an_upload_goes_on_after_a_hostile_folder(good: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    sessions = {name: TEXTS[name] for name in ("deep", "list", "number", "bytes")} | {
        "id": b'{"id": "../../x"}',
        "option": b'{"id": "a", "project": "--help"}',
        "types": b'{"id": "a", "project": 5, "entity": []}',
        "nul": b'{"id": "a", "project": "a\\u0000b"}',
    }
    for name, content in sessions.items():
        (tmp_path / "runs" / name / "wandb").mkdir(parents=True)
        (tmp_path / "runs" / name / "wandb" / "session.json").write_bytes(content)
    for name in ("link", "pipe"):
        (tmp_path / "runs" / name / "wandb").mkdir(parents=True)
        (tmp_path / "runs" / name / "wandb" / "session.json").write_text("{}")
    (tmp_path / "runs" / "link" / "wandb" / "lock").symlink_to(victim)
    os.mkfifo(tmp_path / "runs" / "pipe" / "wandb" / "lock")
    shutil.copytree(good[1], tmp_path / "runs" / "zz good")
    done = command("dist_train", "wandb-sync", f"{tmp_path}/runs/*", cwd=tmp_path)
    assert "zz good: no W&B data, skipped" in done.stdout
    assert done.returncode == 1
    assert victim.read_text() == "precious"


OF_A_MODEL = ("config.yaml", "classes.json", "decode_rules.json", "provenance.json")


FEW, ALL = 6, pytest.param(10_000, marks=pytest.mark.slow)


@pytest.mark.parametrize("most", [FEW, ALL])
def test_evaluate_and_predict_say_what_is_wrong(
    good: tuple[dict[str, Any], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    """Each either works or ends with a message and exit code 2."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "")  # cv2 sets it when it is imported
    tree, run = good
    image = next(Path(tree["data"]["root"], "val").rglob("*.*"))
    chosen = [(name, damage) for name, damage in faults(run) if name.startswith(OF_A_MODEL)]
    for number, (name, damage) in enumerate(chosen[:: max(1, len(chosen) // most)]):
        path = tmp_path / str(number)
        shutil.copytree(run, path, ignore=shutil.ignore_patterns("checkpoints"))
        damage(path)
        main, arguments = (evaluate.main, [str(path)]) if number % 8 == 0 else (predict.main, [str(path), str(image)])
        with restored_log():
            assert main(arguments) in (0, 2), name
        assert "\x1b" not in capsys.readouterr().err
        shutil.rmtree(path)


def test_a_bomb_is_refused_with_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(BOMB)
    assert predict.main([str(tmp_path), "x.png"]) == 2
    capsys.readouterr()
    with pytest.raises(DistTrainError, match="more than 100,000 values, with each alias"):
        dist_train.load_run(tmp_path)


STARTS = ("result.json", "provenance.json", "decode_rules.json", "classes.json", "metrics.jsonl", "data_index.gz")


@pytest.mark.parametrize("most", [FEW, ALL])
def test_a_start_goes_on_or_says_why_not(
    good: tuple[dict[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "")  # cv2 sets it when it is imported
    tree, run = good
    cases = [(name, damage) for name, damage in faults(run) if name.startswith(STARTS)]
    kept = [case for case in cases if re.search(r"deep|list|number|large|pipe|folder|types|digits$|null", case[0])]
    for number, (name, damage) in enumerate(kept[:: max(1, len(kept) // most)]):
        path = tmp_path / str(number)
        shutil.copytree(run, path)
        damage(path)
        cfg = parse_config(changed(tree, run__name=str(number), run__output_dir=str(tmp_path)))
        try:
            status = dist_train.train(cfg).status
        except DistTrainError as error:
            status = str(error)
        if name.startswith(("result.json", "provenance.json")) and "folder" not in name:
            assert status == "done", name
        shutil.rmtree(path)


def test_names_of_classes_do_not_reach_the_terminal(
    good: tuple[dict[str, Any], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(good[1], run)
    write_json(run / "classes.json", [f"a{ESCAPE}", FORMULA, "c"])
    image = next(Path(good[0]["data"]["root"], "val").rglob("*.*"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with restored_log():
        assert predict.main([str(run), str(image)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert f"'{FORMULA}" in printed


@pytest.mark.slow
def test_the_page_of_a_hostile_run_loads_nothing(good: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    """Some of the faults, and all of the rows."""
    drawn = 0
    for number, (name, make) in enumerate(faults(good[1])):
        if number % 19 and not name.startswith("metrics.jsonl"):
            continue
        run = Path(
            shutil.copytree(good[1], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "*.safetensors"))
        )
        make(run)
        try:
            with restored_log():
                report(run, tmp_path / "page.html", 2)
            assert list(Page((tmp_path / "page.html").read_text()).outside()) == [], name
            drawn += 1
        except DistTrainError:
            assert name.startswith("config.yaml"), name
        shutil.rmtree(run)
    assert drawn > 20
