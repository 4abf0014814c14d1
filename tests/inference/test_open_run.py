"""Opening a run folder for a command."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.errors import ConfigError
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.run.saved_config import run_config
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
