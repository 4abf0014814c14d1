"""``python -m dist_train calibrate``: what it keeps, who uses it, and when it is out of date."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from dist_train.errors import ConfigError
from dist_train.export import main as export
from dist_train.inference.calibrate_run import calibrate_run
from dist_train.inference.command_line import calibrate
from dist_train.inference.load_run import load_run
from dist_train.system.files import read_json
from tests.support.commands import call
from tests.support.runs import train
from tests.support.tables import tabled


@pytest.fixture
def run(path: Path, tmp_path: Path) -> Path:
    """A copy of a trained run."""
    return Path(shutil.copytree(path, tmp_path / "run"))


def test_probabilities_are_divided_by_the_temperature(run: Path, image_folder: Path) -> None:
    before = load_run(run, device="cpu").predict(image_folder / "val")
    code, out, err = call(calibrate, run)
    assert (code, err) == (0, "")
    kept = read_json(run / "calibration.json")
    assert f"temperature {kept['temperature']:.4g}" in out
    assert "expected calibration error" in out
    assert kept["thresholds"] == []
    after = load_run(run, device="cpu").predict(image_folder / "val")
    for one, other in zip(before, after, strict=True):
        assert torch.allclose((one.outputs.log() / kept["temperature"]).softmax(0), other.outputs, atol=1e-5)
    code, _, _ = call(export, run)
    assert code == 0
    described = read_json(run / "export" / "model.json")
    assert described["calibration"]["temperature"] == kept["temperature"]
    session = onnxruntime.InferenceSession(run / "export" / "model.onnx", providers=["CPUExecutionProvider"])
    trained = load_run(run, device="cpu")
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = trained.model(images).numpy() / kept["temperature"]
    assert np.abs(session.run(None, {"images": images.numpy()})[0] - expected).max() < 1e-3


def test_other_weights_need_another_fit(run: Path, image_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert call(calibrate, run)[0] == 0
    assert load_run(run, device="cpu").calibration is not None
    assert load_run(run, device="cpu", overrides=["eval.tta={}"]).calibration is None
    shutil.copy(run / "calibration.json", run / "kept.json")
    (run / "calibration.json").write_text("{}")
    assert load_run(run, device="cpu").calibration is None
    shutil.copy(run / "kept.json", run / "calibration.json")
    other = load_run(run, device="cpu")
    weights = bytearray(other.weights.read_bytes())
    weights[-1] ^= 1
    other.weights.write_bytes(weights)
    assert load_run(run, device="cpu").calibration is None
    assert caplog.text.count("is not used: run `") == 3


def test_labels_have_thresholds(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    root = tabled(image_folder, tmp_path / "table", "multilabel")
    run = train(
        tree, data={"root": str(root), "format": "csv", "task": "multilabel"}, loss__name="bce", eval__metric="map"
    )
    code, out, err = call(calibrate, run)
    assert (code, err) == (0, "")
    thresholds = read_json(run / "calibration.json")["thresholds"]
    assert len(thresholds) == 3
    assert "macro F1" in out
    assert "wide: label from a probability of" in out
    for found in load_run(run, device="cpu").predict(root / "images" / "val"):
        chosen = [name for name, p, limit in zip(found.classes, found.outputs, thresholds, strict=True) if p > limit]
        assert found.labels == chosen


def test_a_regression_has_no_probabilities(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    root = tabled(image_folder, tmp_path / "table", "regression")
    data = {"root": str(root), "format": "csv", "task": "regression", "csv": {"targets": ["red", "width"]}}
    run = train(tree, data=data, loss__name="mse", eval__metric="mae", train__epochs=1)
    code, _, err = call(calibrate, run)
    assert code == 2
    assert "is a regression: it has no probabilities to calibrate" in err
    assert not (run / "calibration.json").exists()


def test_a_run_folder_that_cannot_be_written_is_an_error_before_the_work(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere but on a disk that is mounted read-only."""
    monkeypatch.setattr(os, "access", lambda place, mode: not (Path(place) == path and mode & os.W_OK))
    with pytest.raises(
        ConfigError, match=r"/calibration.json cannot be written, and a calibration is kept in the folder"
    ):
        calibrate_run(path, "best", [], False)
