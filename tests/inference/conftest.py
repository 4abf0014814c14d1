"""One trained run for all tests that only read it."""

from pathlib import Path

import pytest

from tests.support.runs import train


@pytest.fixture(scope="session")
def path(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch, whose evaluation cuts the middle out of larger images."""
    tree = {
        "run": {"name": "trained", "output_dir": str(tmp_path_factory.mktemp("runs"))},
        "model": {"name": "test_vit", "pretrained": False},
        "data": {"root": str(image_folder), "image_size": 32, "workers": 0},
        "augment": {"crop": "random_resized"},
        "optim": {"lr": 0.05},
        "train": {"epochs": 1, "global_batch": 12},
        "eval": {"batch_size": 5},
        "log": {"every_steps": 2, "tensorboard": False, "wandb": {"mode": "disabled"}},
    }
    return train(tree)
