"""``log.images``: the picture of the data goes to the loggers, once."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dist_train.config.sections.log import LogConfig
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from dist_train.training.report import first_look as module
from tests.support.runs import changed, state_digest, train


def test_trouble_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "failure_of", lambda words, timeout_s: f"{words[0]} failed within {timeout_s} s")
    assert module.first_look(RunDir(tmp_path), 1, 60.0) is None
    assert [record.getMessage() for record in caplog.records] == [
        "`log.images`: look.png was not drawn: look failed within 60.0 s"
    ]


def test_the_package_is_asked_for_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    module.refuse_without_matplotlib(LogConfig())
    with pytest.raises(ConfigError, match=r"`log\.images` needs matplotlib"):
        module.refuse_without_matplotlib(LogConfig(images=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_that_begins_shows_its_data_once_and_computes_the_same(tree: dict[str, Any]) -> None:
    tree = changed(tree, checkpoint={"every_steps": 2, "keep": 100}, log__tensorboard=True)
    plain = train(tree, 2, run__name="plain")
    run = train(tree, 2, run__name="seen", log__images=True)
    assert state_digest(run) == state_digest(plain)
    for checkpoint in (run / "checkpoints").iterdir():
        if int(checkpoint.name[5:13]) > 4:
            shutil.rmtree(checkpoint)
    drawn = RunDir(run).look
    drawn.unlink()
    train(tree, 2, run__name="seen", log__images=True)
    assert not drawn.exists(), "a resume draws nothing"
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    [event] = events.Images("data/look")
    assert event.step == 0
    assert min(event.width, event.height) > 300


@pytest.mark.slow
def test_loggers_get_the_pixels(tree: dict[str, Any]) -> None:
    run = train(tree, run__name="seen", log__images=True)
    drawn = module.first_look(RunDir(run), 1, 100.0)
    assert drawn is not None
    assert (drawn.dtype, drawn.ndim, drawn.shape[2]) == (np.uint8, 3, 3)
    assert drawn.std() > 10
