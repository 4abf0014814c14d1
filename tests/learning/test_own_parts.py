"""What of an objective is state, what is frozen, and what belongs to the model."""

import pytest
import torch
from torch import Tensor, nn

from dist_train.errors import ConfigError
from dist_train.learning.own_parts import OwnParts


class Mixed(nn.Module):
    """One of each kind; a layer is shared with the model."""

    changing = ("parts.momentum",)

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.student, self.shared = model, model[0]
        self.parts = nn.ModuleDict(
            {
                "trained": nn.Linear(2, 2),
                "frozen": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).requires_grad_(False),
                "momentum": nn.Linear(2, 2).requires_grad_(False),
            }
        )
        self.register_buffer("centre", torch.zeros(2))
        self.register_buffer("constant", torch.ones(2), persistent=False)
        self.scale = nn.Parameter(torch.ones(()))


@pytest.fixture
def mixed() -> Mixed:
    torch.manual_seed(0)
    return Mixed(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


STATE = {
    "centre",
    "scale",
    "parts.trained.weight",
    "parts.trained.bias",
    "parts.momentum.weight",
    "parts.momentum.bias",
}


def test_state_is_what_trains_or_changes_outside_the_model(mixed: Mixed) -> None:
    own = OwnParts(mixed, mixed.student)
    assert own.state_dict().keys() == STATE
    assert {id(p) for p in own.training()} == {id(mixed.scale), *map(id, mixed.parts["trained"].parameters())}
    momentum = mixed.parts["momentum"].parameters()
    assert {id(t) for t in own.changing()} == {id(mixed.centre), *map(id, momentum)}
    assert list(own.frozen) == ["parts.frozen"]


def test_what_was_saved_is_loaded(mixed: Mixed) -> None:
    own = OwnParts(mixed, mixed.student)
    other = Mixed(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    before = other.student[0].weight.clone()
    OwnParts(other, other.student).load_state_dict(own.state_dict())
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in own.state_dict().items())
    assert torch.equal(other.student[0].weight, before)
    lacking = {name: value for name, value in own.state_dict().items() if name != "scale"}
    with pytest.raises(ConfigError, match="has other parts than this one: scale"):
        own.load_state_dict(lacking)


def test_a_hash_is_of_every_weight_of_a_frozen_part(mixed: Mixed) -> None:
    own = OwnParts(mixed, mixed.student)
    before = own.hashes()
    assert before.keys() == {"objective.parts.frozen"}
    norm = mixed.parts["frozen"][1]  # type: ignore[index]
    with torch.no_grad():
        norm.running_mean.add_(1)
    assert own.hashes() != before, "its buffers too"
    own.check_frozen()
    with torch.no_grad():
        norm.bias.add_(1)
    with pytest.raises(ConfigError, match=r"parts.frozen changes while training"):
        own.check_frozen()


def test_weights_that_are_not_a_number_are_no_change() -> None:
    class Broken(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model, self.teacher = model, nn.Linear(1, 1).requires_grad_(False)
            nn.init.constant_(self.teacher.weight, torch.nan)

        def forward(self, images: Tensor) -> Tensor:
            return images

    model = nn.Linear(1, 1)
    OwnParts(Broken(model), model).check_frozen()
