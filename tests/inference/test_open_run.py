"""Opening a run folder for a command."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dist_train import evaluate, export, load_run, predict
from dist_train.errors import EXIT_USER, ConfigError
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.run.saved_config import run_config
from dist_train.system.terminal import restored_log
from launch import compare, status, wandb_sync
from tests.support.runs import train


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"it has no config\.yaml"):
        run_config(tmp_path)


def test_a_command_gets_the_model_in_eval_mode_and_overrides_of_the_config(tree: dict[str, Any]) -> None:
    path = train(tree, train__epochs=1)
    run = open_run(path, "last", "cpu", overrides=["eval.batch_size=3"])
    assert type(run) is OpenedRun
    assert (run.config.eval.batch_size, run.config.run.name) == (3, "test")
    assert not any(part.training for part in run.model.modules())
    (path / "best.safetensors").unlink()
    with pytest.raises(
        ConfigError, match=r"has no best\.safetensors: the best weights exist after the first evaluation"
    ):
        open_run(path, device="cpu")


OWN_MODEL = """
from pathlib import Path
from torch import nn
Path({ran!r}).touch()
def build(num_classes, **options):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))
"""


@pytest.fixture
def foreign_run(tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run whose model lies in its own folder, where Python finds it; ``ran`` appears when that code runs."""
    (tmp_path / "own").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "own")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "own"), *filter(None, sys.path)]))
    code = tmp_path / "own" / "their_model.py"
    code.write_text(OWN_MODEL.format(ran=str(tmp_path / "ran")))
    path = train(
        tree, train__epochs=1, model={"name": "their_model:build", "pretrained": False}, loss__name="cross_entropy"
    )
    code.rename(path / "their_model.py")
    (tmp_path / "ran").unlink()
    monkeypatch.syspath_prepend(path)
    importlib.invalidate_caches()
    with restored_log():
        yield path
    sys.modules.pop("their_model", None)


def test_no_command_runs_code_that_came_with_the_run_folder(
    foreign_run: Path, tmp_path: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, images = str(foreign_run), str(image_folder / "val")
    for main, arguments in ((evaluate.main, [run]), (predict.main, [run, images]), (export.main, [run])):
        assert main(arguments) == EXIT_USER
        assert "came with the run folder" in capsys.readouterr().err
        assert not (tmp_path / "ran").exists()
    with pytest.raises(
        ConfigError, match=r"`model.name` \(their_model:build\) .*--trust .*load_run\(..., trust=True\)"
    ):
        load_run(run, device="cpu")
    for launcher in (compare.main, wandb_sync.main, status.main):
        assert launcher([run]) == 0
    assert not (tmp_path / "ran").exists()
    assert predict.main([run, images, "--trust"]) == 0
    assert (tmp_path / "ran").exists()
    assert load_run(run, device="cpu", trust=True).evaluate()["top1"] >= 0


def test_code_that_changed_since_the_training_is_noted(foreign_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_run(foreign_run, device="cpu", trust=True)
    assert caplog.text == ""
    with open(foreign_run / "their_model.py", "a") as file:
        file.write("# changed\n")
    open_run(foreign_run, device="cpu", trust=True)
    assert "`model.name` (their_model:build) has changed since" in caplog.text
