"""A run folder and a trainer that needs no torch."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def standin_code(tmp_path: Path) -> Path:
    """A copy of the code whose trainer is ``standin_train.py``: the first entry of a PYTHONPATH."""
    code = tmp_path / "code"
    for package in ("dist_train", "launch"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("standin_train.py"), code / "dist_train" / "training" / "attempt.py")
    return code


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Path]:
    """Write a config for the stand-in, with its plan; returns the file."""

    def make(**plan: object) -> Path:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        (data / "plan.json").write_text(json.dumps({"steps": 20, "step_s": 0.05, "save_every": 5} | plan))
        config = tmp_path / "config.yaml"
        config.write_text(
            f"run: {{name: tiny, output_dir: {tmp_path / 'runs'}}}\n"
            f"model: {{name: resnet18, pretrained: false}}\ndata: {{root: {data}}}\n"
            "optim: {lr: 0.1}\ntrain: {global_batch: 4}\n"
        )
        return config

    return make


@pytest.fixture
def python() -> str:
    return sys.executable
