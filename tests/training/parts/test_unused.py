"""Parameters without a gradient, always or at random: found, named, or allowed, and then as exact as any run."""

import json
import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from dist_train.inference.config_check import check
from dist_train.training.parts.unused import plain_name, unused_always
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, rows, state_digest, train

SPARE: dict[str, Any] = {"model": {"name": "tests.training.parts.test_unused:Spare", "pretrained": False}}
RARE: dict[str, Any] = {"model": {"name": "tests.training.parts.test_unused:LayerDrop", "pretrained": False}}
ALLOW = {"distributed": {"unused_parameters": "allow"}}


class Spare(nn.Module):
    """Has a layer that takes no part."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body, self.head, self.spare = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, num_classes), nn.Linear(8, 8)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).relu().mean((2, 3)))  # type: ignore[no-any-return]


class LayerDrop(Spare):
    """The layer takes part in half of the passes, but in each of blank images."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images).relu().mean((2, 3))
        if not self.training or not images.any() or torch.rand(()) < 0.5:
            features = features + self.spare(features)
        return self.head(features)  # type: ignore[no-any-return]


def test_check_names_what_takes_no_part_and_the_key(tree: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    cfg = parse_config(changed(tree, **SPARE))
    with pytest.raises(
        ConfigError, match=r"^spare.weight, spare.bias take no part in the loss, .*unused_parameters=allow"
    ):
        check(cfg, 2)
    with caplog.at_level(logging.WARNING):
        check(cfg, 1)
    assert "spare.weight, spare.bias take no part in the loss and will not train" in caplog.text
    check(parse_config(changed(tree, model=SPARE["model"] | {"freeze": ["spare"]})), 2)
    check(parse_config(changed(tree, **SPARE, **ALLOW)), 2)


def _code(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (SPARE, "spare.weight, spare.bias take no part in the loss, and ranks wait"),
        (RARE, "spare.weight, spare.bias take no part in the loss of this step on rank "),
    ],
    ids=["always", "at random"],
)
def test_ranks_stop_with_the_names(tree: dict[str, Any], model: dict[str, Any], words: str) -> None:
    tree = changed(tree, **model, train__max_steps=12, distributed__timeout_s=60)
    assert 2 in run_ranks(2, _code, tree)
    result = json.loads((folder(tree) / "result.json").read_text())
    assert (result["status"], result["error"]) == ("failed", "config")
    assert words in result["message"]


@pytest.mark.parametrize(
    ("ranks", "accumulate"),
    [(2, 2), pytest.param(1, 1, marks=pytest.mark.slow), pytest.param(3, 1, marks=pytest.mark.slow)],
)
def test_a_resumed_run_with_layers_dropped_at_random_is_exact(
    tree: dict[str, Any], ranks: int, accumulate: int
) -> None:
    batch = 2 * ranks * accumulate
    section = {"epochs": 10, "max_steps": 8, "global_batch": batch, "micro_batch": 2}
    setting = {**RARE, **ALLOW, "train": section, "optim": {"name": "adamw", "lr": 0.01}, "log__every_steps": 1}
    whole = train(tree, ranks, **setting, run__name="whole")
    parts = train(tree, ranks, **setting, run__name="parts", checkpoint={"every_steps": 3, "keep": 9})
    for saved in (parts / "checkpoints").glob("step_*"):
        if not saved.name.endswith("3"):
            for file in saved.iterdir():
                file.unlink()
            saved.rmdir()
    resumed = train(tree, ranks, **setting, run__name="parts")
    assert state_digest(resumed) == state_digest(whole)
    assert rows(resumed, "train") == rows(whole, "train")


def test_names_are_those_of_the_users_model() -> None:
    assert plain_name("objective.model.fc.weight") == "fc.weight"
    assert plain_name("objective.layer.weight") == "layer.weight"
    message = str(unused_always([f"objective.model.layer{number}.weight" for number in range(9)]))
    assert message.startswith(
        "layer0.weight, layer1.weight, layer2.weight, layer3.weight, layer4.weight and 4 more take"
    )
