"""Uploads that are refused; ``tests/launch/test_wandb_sync.py`` tests the uploads themselves."""

from pathlib import Path

import pytest

from dist_train.errors import EXIT_INCOMPLETE
from dist_train.loggers.wandb.files import only_uploader_of
from dist_train.run.folder import RunDir

pytest.importorskip("wandb")

from dist_train.loggers.wandb.resync import main


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    (tmp_path / "wandb").mkdir()
    return RunDir(tmp_path)


def test_a_live_run_is_left_alone(folder: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    with only_uploader_of(folder, wait_s=0.0):
        assert main([str(folder.path)]) == EXIT_INCOMPLETE
    assert "live, skipped" in capsys.readouterr().err


def test_a_damaged_session_is_named(folder: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.path / "wandb" / "session.json").write_text("{")
    assert main([str(folder.path)]) == EXIT_INCOMPLETE
    assert "session.json is damaged" in capsys.readouterr().err
