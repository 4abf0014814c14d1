"""Compiled kernels are code: they come from a folder of this user."""

import os
from pathlib import Path

import pytest
from torch import nn

from dist_train.errors import ConfigError
from dist_train.training.parts.compiled import FOLDERS, compile_model


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in FOLDERS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("before", [None, "torchinductor_me"])
def test_the_default_is_a_folder_of_this_user(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before:  # as an import of torch's compiler sets it
        monkeypatch.setenv(FOLDERS[0], str(temporary / before))
    compile_model(nn.Linear(1, 1))
    folder = Path(os.environ[FOLDERS[0]])
    assert folder == temporary / f"dist_train-{os.geteuid()}" / "compiled"
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_chosen_folder_in_which_others_write_is_refused(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (temporary / "kernels").mkdir()
    monkeypatch.setenv(name, str(temporary / "kernels"))
    (temporary / "kernels").chmod(0o755)
    compile_model(nn.Linear(1, 1))
    (temporary / "kernels").chmod(0o777)
    with pytest.raises(ConfigError, match=rf"`{name}`: other users can write to .*kernels"):
        compile_model(nn.Linear(1, 1))
