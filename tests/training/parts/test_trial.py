"""Trial passes: what they look like, what they find, and that they leave nothing behind."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.learning.objective import TrainingPass
from dist_train.training.parts.trial import blank_batch, left_as_found, try_training
from dist_train.training.setup import build_setup
from tests.support.runs import changed
from tests.support.tables import tabled

CPU = torch.device("cpu")


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("augment", [{}, {"mixup": 0.8}, {"cutmix": 1.0}])
def test_a_blank_batch_looks_as_one_of_training_does(
    tree: dict[str, Any], channels_last: bool, augment: dict[str, Any]
) -> None:
    """A model would be compiled for any other batch alone."""
    model = {"name": "test_resnet", "pretrained": False, "channels_last": channels_last}
    cfg = parse_config(changed(tree, model=model, augment=augment))
    _compare(cfg)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_so_do_targets_of_other_tasks(tree: dict[str, Any], image_folder: Any, tmp_path: Any, task: str) -> None:
    root = str(tabled(image_folder, tmp_path / "tables", task))
    data = changed(tree, data__root=root, data__format="csv", data__task=task)
    names = {"multilabel": ("bce", "map"), "regression": ("mse", "rmse")}[task]
    targets = {"data__csv": {"targets": ["red", "width"]}} if task == "regression" else {}
    _compare(parse_config(changed(data, loss__name=names[0], eval__metric=names[1], **targets)))


def _compare(cfg: Any) -> None:
    setup = build_setup(cfg, Dist.alone())
    images, labels, _ = next(setup.stepper.batches)
    batch = setup.stepper.augment(images, labels, 0)
    blank = blank_batch(cfg, setup.network, setup.index.outputs, setup.plan.micro_batch, CPU)
    for real, zeros in zip(batch, blank, strict=True):
        assert (zeros.shape, zeros.stride(), zeros.dtype) == (real.shape, real.stride(), real.dtype)
        assert not zeros.any()


class Busy(nn.Module):
    """Changes all that a pass can change."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)
        self.momentum = nn.Parameter(torch.zeros(2), requires_grad=False)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            self.momentum.add_(1)
            self.calls.add_(1)
        return {"loss": nn.functional.dropout(self.used(images)).sum()}


def test_a_trial_leaves_everything_as_it_was() -> None:
    module, images = Busy(), torch.ones(1, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    generator = torch.get_rng_state()
    with left_as_found(module, CPU, [module.momentum]):
        module(images, images)["loss"].backward()
        assert module.calls == 1
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(generator, torch.get_rng_state())


def trial_of(objective: nn.Module, tree: dict[str, Any], changing: Any = ()) -> list[str]:
    module, images = TrainingPass(objective, nullcontext), torch.ones(1, 2)
    return try_training(parse_config(tree), module, images, images, changing)


def test_what_gets_no_gradient_is_found(tree: dict[str, Any]) -> None:
    objective = Busy()
    assert trial_of(objective, tree, [objective.momentum]) == ["objective.unused.weight", "objective.unused.bias"]
    objective.unused = objective.used
    assert trial_of(objective, tree, [objective.momentum]) == []


def test_a_result_that_is_none_is_found(tree: dict[str, Any]) -> None:
    class Vector(Busy):
        def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
            return {"loss": self.used(images)}

    with pytest.raises(ConfigError, match=r"must return scalars, means over the batch; loss has shape \[1, 2\]"):
        trial_of(Vector(), tree)


class Broken(nn.Module):
    """A model that fails, or gives what no loss can take, in the mode that its name says."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, num_classes)

    def forward(self, images: Tensor) -> Any:
        return self.head(self.body(images).mean((2, 3)))


class FailsInTraining(Broken):
    def forward(self, images: Tensor) -> Any:
        if self.training:
            raise KeyError("mask")
        return super().forward(images)


class FailsInEvaluation(Broken):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images) if self.training else images.view(7, 11)


class DictInTraining(Broken):
    def forward(self, images: Tensor) -> Any:
        return {"logits": super().forward(images)} if self.training else super().forward(images)


class WrongWidthInTraining(Broken):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images)[:, :, None] if self.training else super().forward(images)


class Detached(Broken):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images).detach()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (FailsInTraining, r"fails in training mode on images \[2, 3, 32, 32\]: 'mask' \(test_trial.py:\d+\)"),
        (FailsInEvaluation, r"fails in evaluation mode on images \[1, 3, 32, 32\]: shape .* \(test_trial.py:\d+\)"),
        (DictInTraining, r"returns a dict in training mode, but a loss needs a tensor \[B, K\]"),
        (WrongWidthInTraining, r"the model fails in a training step on images \[2, 3, 32, 32\] and targets \[2\]: "),
        (Detached, "the loss has no gradient: nothing trains, or the model's forward pass detaches it"),
    ],
)
def test_a_model_that_fails_is_found_before_the_first_step(tree: dict[str, Any], model: type, words: str) -> None:
    name = f"tests.training.parts.test_trial:{model.__name__}"
    with pytest.raises(ConfigError, match=words):
        build_setup(parse_config(changed(tree, model={"name": name, "pretrained": False})), Dist.alone())
