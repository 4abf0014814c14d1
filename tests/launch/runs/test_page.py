"""The comparison as an HTML page and as a picture."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from launch import compare
from tests.launch.run_folders import make_run, page_data, run_script
from tests.support.pages import fits_a_window

DRAW = Path(__file__).parents[2] / "support" / "draw_page.js"


def test_the_page_takes_numbers_that_json_does_not_know(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    wild = make_run(tmp_path, "b", top1=float("nan"))
    wild.config.write_text(wild.config.read_text().replace("clip: null", "clip: .inf"))
    wild.metrics.write_text('{"step": 1, "epoch": NaN, "split": "train", "loss": Infinity}\n')
    done = run_script(tmp_path / "*", "--html", tmp_path / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    page = page_data(tmp_path / "page.html")["runs"][1]
    assert page["settings"]["train.clip"] == "inf"
    assert page["curves"]["train/loss"] == [[1, None, None]]


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


def test_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", lr=0.2)
    assert compare.main([str(tmp_path / "*"), "--png", str(tmp_path / "p.png")]) == 0
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_the_page_knows_groups_families_and_levels(tmp_path: Path) -> None:
    for name, lr, seed, fold in (
        ("a", 0.1, 0, "null"),
        ("b", 0.1, 1, "null"),
        ("c", 0.2, 0, "null"),
        ("d", 0.1, 0, "1/5"),
    ):
        run = make_run(tmp_path, name, lr=lr, top1=50 + lr)
        text = run.config.read_text().replace("seed: 0", f"seed: {seed}", 1).replace("fold: null", f"fold: {fold}")
        run.config.write_text(text.replace("workers: null", f"workers: {seed}"))
    page = tmp_path / "page.html"
    assert run_script(tmp_path / "*", "--html", page).returncode == 0
    data = page_data(page)
    assert [run["name"] for run in data["runs"]] == ["c", "a", "b", "d"]
    assert [group["runs"] for group in data["groups"]] == [[0, 1, 2], [3]]
    assert (data["families"], data["paint"], data["metrics"]) == ([0, 1, 1, 2], "data.fold", ["best.top1"])
    assert (data["settingKeys"], data["foldedKeys"]) == (["run.seed", "data.fold", "optim.lr"], ["data.workers"])
    if node := shutil.which("node"):
        done = subprocess.run([node, DRAW, page], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert "top1 on data.fold=1/5" in json.loads(done.stdout)["texts"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 500])
def test_it_fits_the_window_of_a_browser(tmp_path: Path, width: int) -> None:
    for place in range(6):
        run = make_run(tmp_path / "runs", f"{'a_long_name_' * 8}{place}", lr=0.1 * (place + 1), top1=50.0 + place)
        run.config.write_text(run.config.read_text().replace("root: data", f"root: {'deep/' * 30}{place % 2}"))
    assert run_script(tmp_path / "runs" / "*", "--html", tmp_path / "page.html").returncode == 0
    assert fits_a_window(tmp_path / "page.html", width, tmp_path)
