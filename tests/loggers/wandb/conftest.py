"""A run folder without credentials, and a server with W&B's protocol."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_train.run.folder import RunDir
from tests.support.wandb_helpers import isolated_run
from tests.support.wandb_stub import WandbStub


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    return isolated_run(tmp_path, monkeypatch)


@pytest.fixture
def server() -> Iterator[WandbStub]:
    with WandbStub() as stub:
        yield stub
