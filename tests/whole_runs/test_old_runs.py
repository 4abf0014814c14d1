"""Run folders of an older version resume, evaluate, predict and compare as they did with that version.

tests/old_runs/make.py says how they were made. On a machine that computes what the one did that made them (``probe``),
every bit must be the same; on others the numbers must be close.
"""

import contextlib
import csv
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.config import load_config, parse_config
from dist_train.config.choices import falls
from dist_train.model.weights import load_weights
from dist_train.system.files import sha256_of
from dist_train.system.terminal import digits
from tests.old_runs.probe import probe
from tests.support.ranks import run_ranks
from tests.support.runs import rows, state_digest

ROOT = Path(__file__).resolve()
while not (ROOT / "pyproject.toml").exists():
    ROOT = ROOT.parent
OLD = ROOT / "tests" / "old_runs"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())
LOOSE = ("top1", "top5", "macro_f1", "map", "r2", "mae", "rmse")
"""Metrics that jump with a tiny change of the weights, or are worth no more than the loss."""


@pytest.fixture(scope="session")
def same_machine() -> bool:
    """Whether this machine computes what the one did that made the runs."""
    found: bool = run_ranks(1, probe) == [EXPECTED["probe"]]
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of the images, the tables and the run folders; paths in the configs are relative to it."""
    for name in ("images", "tables", "folders"):
        shutil.copytree(OLD / name, tmp_path / name)
    return tmp_path


def _resume(place: str, config: str) -> int:
    os.chdir(place)
    from dist_train.training.attempt import main

    return main(load_config(config))


def _command(place: Path, module: str, *arguments: str) -> str:
    """What ``python -m module`` prints, in a process that has torch already."""
    ((code, out),) = run_ranks(1, _as_command, str(place), module, arguments)
    assert code == 0, out
    text: str = out
    return text


def _as_command(place: str, module: str, arguments: tuple[str, ...]) -> tuple[Any, str]:
    os.chdir(place)
    sys.argv = [module, *arguments]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            return end.code, out.getvalue()
    return 0, out.getvalue()


@pytest.mark.parametrize("name", EXPECTED["runs"])
def test_an_old_run_goes_on_as_it_would_have(name: str, place: Path, same_machine: bool) -> None:
    expected, run = EXPECTED["runs"][name], place / "folders" / name
    assert load_config(run / "config.yaml") == parse_config(expected["config"])
    before = json.loads((run / "result.json").read_text())
    assert (before["status"], before["step"]) == (expected["status"], expected["stopped_at"])
    world_size = expected["world_size"]
    codes = run_ranks(world_size, _resume, str(place), f"folders/{name}/config.yaml")
    assert codes == [0] * world_size
    result = json.loads((run / "result.json").read_text())
    attempt = 1 if before["status"] == "done" else 2
    assert (result["status"], result["step"], result["attempt"]) == ("done", expected["total_steps"], attempt)
    if same_machine:
        # That version computed metrics in float32; their last digits have changed, and with them those in the progress.
        evaluations = [row for row in expected["rows"] if row["split"] == "val"]
        metric = load_config(run / "config.yaml").eval.metric
        first = first_best(evaluations, metric)
        scores = {"best": first, "last": _scores(evaluations[-1]), "to_beat": first[metric]}
        # Nor did it keep the BatchNorm statistics of each rank, which a model of the user may read in training.
        assert state_digest(run, without="buffers", **scores) == expected["state"]
        assert_alike(rows(run), expected["rows"])
        same = ("last", "best") if result["best"]["step"] == first["step"] else ("last",)
        assert {file: sha256_of(run / f"{file}.safetensors") for file in same} == {
            file: expected[file] for file in same
        }
    else:
        _close_rows(rows(run), expected["rows"])
        _close_weights(run / "last.safetensors", OLD / "final" / f"{name}.safetensors")


def first_best(found: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """The best evaluation of that version: the first of those with the same score. Today it is the one with the lower loss."""
    return _scores((min if falls(metric) else max)(found, key=lambda row: row[metric]))


def _scores(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in row if key not in ("epoch", "split")}


def assert_alike(found: Any, wanted: Any, metric: bool = False) -> None:
    """The same, but metrics to the precision of float32, in which that version computed them."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key in wanted:
            assert_alike(found[key], wanted[key], key in (*LOOSE, "f1", "recall", "precision", "ap"))
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_alike(one, other, metric)
    else:
        assert found == (pytest.approx(wanted, rel=2e-7, nan_ok=True) if metric and wanted is not None else wanted)


def _close_rows(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [list(row) for row in found] == [list(row) for row in expected]
    for row, wanted in zip(found, expected, strict=True):
        assert row["split"] == wanted["split"]
        firm = [key for key in row if key not in (*LOOSE, "split")]
        assert [row[key] for key in firm] == pytest.approx([wanted[key] for key in firm], rel=0.05, abs=0.01)


def _close_weights(found: Path, expected: Path) -> None:
    weights, wanted = load_weights(found), load_weights(expected)
    assert weights.keys() == wanted.keys()
    for key in weights:
        assert torch.allclose(weights[key].float(), wanted[key].float(), rtol=0.02, atol=5e-3), key


def test_an_old_run_is_evaluated_as_it_was(place: Path, same_machine: bool) -> None:
    text = _command(place, "dist_train.evaluate", "folders/done", "--json", "scores.json")
    scores, expected = json.loads((place / "scores.json").read_text()), EXPECTED["evaluate"]
    if same_machine:
        assert text.splitlines()[1:] == expected["text"].splitlines()[1:], "the first line had 17 digits then"
        assert_alike(scores, expected["scores"])
    assert scores["loss"] == pytest.approx(expected["scores"]["loss"], rel=1e-3)
    assert scores.keys() == expected["scores"].keys()


def test_an_old_run_predicts_as_it_did(place: Path, same_machine: bool) -> None:
    text = _command(place, "dist_train.predict", "folders/done", "images/val").replace("\r\n", "\n")
    if same_machine:
        assert text == EXPECTED["predict"]
    found, expected = (list(csv.reader(lines.splitlines())) for lines in (text, EXPECTED["predict"]))
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for row, wanted in zip(found[1:], expected[1:], strict=True):
        assert [float(x) for x in row[2:]] == pytest.approx([float(x) for x in wanted[2:]], abs=1e-3)


def _shown(value: str) -> str:
    """A value of the CSV file as version 0.1.0 printed it."""
    try:
        return digits(float(value)) if value else "-"
    except ValueError:
        return value


def test_old_runs_are_compared_as_they_were(place: Path) -> None:
    """Each value that the table of version 0.1.0 had; they are what the files say, so that they are the same on any machine."""
    runs = [f"folders/{path.name}" for path in sorted((place / "folders").iterdir())]
    compare = [sys.executable, str(ROOT / "launch" / "compare.py"), *runs, "--csv", "table.csv"]
    subprocess.run(compare, cwd=place, capture_output=True, text=True, check=True)
    with (place / "table.csv").open(newline="") as file:
        found = {row["name"]: {key: _shown(value) for key, value in row.items()} for row in csv.DictReader(file)}
    columns, *rows = (re.split("  +", line.strip()) for line in EXPECTED["compare"].splitlines())
    assert {row[0] for row in rows} == found.keys()
    for row in rows:
        assert {column: found[row[0]][column] for column in columns} == dict(zip(columns, row, strict=True))
