"""Objects given in code train in place of what the config names, and a resume compares them."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dist_train.config import parse_config
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import Dist, joined
from dist_train.errors import ConfigError, DataError
from dist_train.training.loop import save_now
from dist_train.training.parts.given import Given, qualified_name
from dist_train.training.setup import Setup, build_setup
from dist_train.training.step import train_step
from tests.support.objectives import Projection
from tests.support.ranks import run_ranks
from tests.support.runs import changed

ALONE = Dist.alone()


class Squares:
    """Grey squares, the brighter the higher the class; in memory."""

    def __init__(self, length: int, classes: int = 4) -> None:
        self.classes = [f"grey {number}" for number in range(classes)]
        self.targets = [number % classes for number in range(length)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        target = self.targets[number]
        return np.full((32, 32, 3), 50 * target, dtype=np.uint8), target


class Tiny(nn.Module):
    """A layer over the mean colour."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean((2, 3)))  # type: ignore[no-any-return]


def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    return 3 * F.cross_entropy(outputs, targets)


def built(tree: dict[str, Any], **objects: Any) -> Setup:
    return build_setup(parse_config(tree), ALONE, Given(**objects))


@pytest.mark.parametrize("make", [Tiny, lambda outputs: Tiny(outputs), Tiny(3)])
def test_a_model(tree: dict[str, Any], make: Any) -> None:
    setup = built(changed(tree, model={"name": "ignored", "pretrained": True}), model=make)
    assert type(setup.state.model) is Tiny
    assert not isinstance(make, Tiny) or setup.state.model is make
    before = setup.state.model.state_dict()["head.weight"].clone()
    train_step(setup.stepper, setup.state)
    assert not torch.equal(setup.state.model.state_dict()["head.weight"], before)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda outputs: 3, "the model given must return a torch.nn.Module, but returned int"),
        (Tiny(5), "has 5 outputs, but the data needs 3"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(tree: dict[str, Any], make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        built(tree, model=make)


def test_data(tree: dict[str, Any]) -> None:
    sets = Squares(48), Squares(8)
    setup = built(changed(tree, data__root="nowhere"), data=sets)
    assert (len(setup.index.train), len(setup.index.val)) == (48, 8)
    assert setup.index.classes == sets[0].classes
    images, labels, indices = next(setup.stepper.batches)
    assert [sets[0].targets[number] for number in indices.tolist()] == labels.tolist()
    assert images[:, 0, 0, 0].tolist() == [50 * label for label in labels.tolist()]


def test_a_part_of_one_set_for_validation(tree: dict[str, Any]) -> None:
    setup = built(changed(tree, data__val_fraction=0.25), data=(Squares(48), None))
    assert (len(setup.index.train), len(setup.index.val)) == (36, 12)
    with pytest.raises(ConfigError, match="the data given has no validation set"):
        built(tree, data=(Squares(48), None))
    with pytest.raises(DataError, match="has a validation set already"):
        built(changed(tree, data__val_fraction=0.25), data=(Squares(48), Squares(8)))


def _on_ranks(tree: dict[str, Any]) -> tuple[str, list[int]]:
    with joined(DistributedConfig(timeout_s=30)) as group:
        setup = build_setup(parse_config(tree), group, Given(data=(Squares(48), Squares(8)), model=Tiny))
        _, labels, _ = next(setup.stepper.batches)
        train_step(setup.stepper, setup.state)
        return setup.index.fingerprint, labels.tolist()


def test_data_on_two_ranks(tree: dict[str, Any]) -> None:
    """Each rank reads its own sets: they do not travel."""
    (fingerprint, labels), (other, other_labels) = run_ranks(2, _on_ranks, tree)
    assert fingerprint == other
    [(_, alone)] = run_ranks(1, _on_ranks, tree)
    assert labels + other_labels == alone


def test_a_loss(tree: dict[str, Any]) -> None:
    sums = []
    for loss in (None, weighted):
        setup = built(changed(tree, run__name=str(loss is None)), loss=loss)
        train_step(setup.stepper, setup.state)
        sums.append(setup.state.sums.values()[0].item())
    assert sums[1] == pytest.approx(3 * sums[0])
    with pytest.raises(ConfigError, match="the loss given must return one number"):
        train_step(built(tree, loss=lambda outputs, targets: outputs).stepper, setup.state)


def test_an_objective(tree: dict[str, Any]) -> None:
    setup = built(tree, objective=lambda model: Projection(model))
    train_step(setup.stepper, setup.state)
    assert setup.state.sums.read(ALONE).extras.keys() == {"spread"}
    with pytest.raises(ConfigError, match="both a loss and an objective are given"):
        built(tree, objective=Projection, loss=weighted)


def test_loggers_are_handed_on(tree: dict[str, Any]) -> None:
    loggers = (object(),)
    assert built(tree, loggers=loggers).given.loggers is loggers


def test_names_are_of_classes_and_functions() -> None:
    here = "tests.training.parts.test_given"
    assert qualified_name(Tiny) == qualified_name(Tiny(2)) == f"{here}:Tiny"
    given = Given(model=Tiny, data=(Squares(4), None), loss=weighted, loggers=(3,))
    assert given.names() == {
        "given.model": f"{here}:Tiny", "given.data": f"{here}:Squares", "given.loss": f"{here}:weighted",
    }  # fmt: skip
    assert Given().names() == {}


class _NeverStops:
    def reserve(self, seconds: float) -> None: ...


class _Quiet:
    def paused(self, seconds: float) -> None: ...

    def look_at_code(self) -> None: ...

    def saving(self) -> None: ...


def _saved(setup: Setup) -> None:
    train_step(setup.stepper, setup.state)
    save_now(setup, _Quiet(), _NeverStops(), None)  # type: ignore[arg-type]
    setup.checkpoints.close()


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        ({}, {"loss": weighted}, "`given.loss` was None and is now 'tests.training.parts.test_given:weighted'"),
        ({"loss": weighted}, {}, "`given.loss` was 'tests.training.parts.test_given:weighted' and is now None"),
        ({"model": Tiny}, {"model": Tiny, "loss": weighted}, "`given.loss` was None"),
        ({"objective": Projection}, {"objective": Tiny}, "`given.objective` was 'tests.support.objectives:Projection'"),
    ],
)
def test_another_object_is_refused_by_name(
    tree: dict[str, Any], then: dict[str, Any], now: dict[str, Any], words: str
) -> None:
    _saved(built(tree, **then))
    with pytest.raises(ConfigError, match=words):
        built(tree, **now)
    assert built(tree, **then).state.progress.step == 1


def test_other_data_is_refused_by_its_fingerprint(tree: dict[str, Any]) -> None:
    _saved(built(tree, data=(Squares(48), Squares(8))))
    with pytest.raises(DataError, match="has changed since the run started"):
        built(tree, data=(Squares(56), Squares(8)))
