"""The model of a run folder, without a device and without a command around it."""

from typing import Any

import pytest
import torch

from dist_train.checkpoint.format import read_weights
from dist_train.errors import ConfigError
from dist_train.model.trained.open_model import open_model
from dist_train.run.folder import RunDir
from dist_train.run.saved_config import run_config
from tests.support.runs import train


def test_it_has_the_published_weights_and_the_classes(tree: dict[str, Any]) -> None:
    path = train(tree, train__max_steps=2)
    found = open_model(RunDir(path), run_config(path))
    assert (found.classes, found.file) == (["class_a", "class_b", "class_c"], path / "best.safetensors")
    state = found.network.module.state_dict()
    assert all(torch.equal(state[name], value) for name, value in read_weights(path / "best.safetensors").items())
    (path / "classes.json").rename(path / "classes")
    (path / "classes.json").mkdir()
    with pytest.raises(ConfigError, match=r"classes.json is a folder; restore it"):
        open_model(RunDir(path), run_config(path))
    (path / "classes.json").rmdir()
    (path / "classes.json").write_text("[1, 2, 3]")
    with pytest.raises(ConfigError, match="is damaged: it must be a list of names"):
        open_model(RunDir(path), run_config(path))
