"""Fixtures: a small image folder, configs on it, and real ranks."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from dist_train.system.imports.late_compiler import import_compiler_late
from tests.support.images import make_image_folder

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Import in less time, as a run does: without torch's compiler, and without scanning new modules and tests for garbage."""
    import_compiler_late()
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class Schedule(LoadScopeScheduling):
    """Any process of pytest takes any test, but one takes all of a group. Groups come first."""

    GROUPS = (
        "tests/slurm/",  # the job of one test must not preempt that of another
        "tests/test_packaging.py",  # the wheel is built once
        "tests/whole_runs/test_hostile_runs.py",  # some 400 damaged runs are made once
    )

    def _split_scope(self, nodeid: str) -> str:
        return next((group for group in self.GROUPS if nodeid.startswith(group)), nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Schedule:
    return Schedule(config, log)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture
def tree(image_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """A config, as plain values, of a run that takes about a second: 5 steps an epoch, 2 epochs."""
    return {
        "run": {"name": "test", "output_dir": str(tmp_path / "runs"), "deterministic": True},
        "model": {"name": "test_vit", "pretrained": False},
        "data": {"root": str(image_folder), "image_size": 32, "workers": 0},
        "optim": {"lr": 0.05},
        "train": {"epochs": 2, "global_batch": 12},
        "eval": {"batch_size": 5},
        "log": {"every_steps": 2, "tensorboard": False, "wandb": {"mode": "disabled"}},
        "distributed": {"timeout_s": 60},
    }


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """A test leaves the environment and the process group as it found them."""
    before = _environment()
    yield
    assert _environment() == before, "the test changed the environment"


OF_OTHERS = (
    "PYTEST_CURRENT_TEST",
    "TORCHINDUCTOR_CACHE_DIR",
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "LD_LIBRARY_PATH",
)
"""What pytest and imports of torch's compiler, of scikit-learn and of OpenCV set."""


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in OF_OTHERS}
