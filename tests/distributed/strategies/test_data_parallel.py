"""DataParallel: parts of a batch on replicas. Without GPUs torch calls the module itself, on one part."""

from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dist_train.config import parse_config
from dist_train.config.sections.train import TrainConfig
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.data_parallel import SAMPLES, Part, mean_over_parts
from dist_train.errors import ConfigError
from dist_train.learning.objective import Supervised
from dist_train.learning.precision import Precision
from dist_train.training.setup import build_setup
from dist_train.training.step import train_step
from tests.support.runs import changed

GROUP = Dist.alone(strategy="dp")


def test_the_bare_model_is_trained_and_saved(tree: dict[str, Any]) -> None:
    setup = build_setup(parse_config(tree), GROUP)
    assert isinstance(setup.stepper.wrapped, nn.DataParallel)
    before = setup.state.model.state_dict()["head.weight"].clone()
    train_step(setup.stepper, setup.state)
    assert not torch.equal(setup.state.model.state_dict()["head.weight"], before)
    assert not [name for name in setup.state.state_dict(GROUP)["model"] if name.startswith("module.")]


def test_a_step_is_that_of_a_single_device(tree: dict[str, Any]) -> None:
    weights = []
    for group in (GROUP, Dist.alone()):
        setup = build_setup(parse_config(changed(tree, run__name=group.strategy)), group)
        train_step(setup.stepper, setup.state)
        weights.append(setup.state.model.state_dict()["head.weight"])
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"train__precision": "fp16"}, r"`train.precision` \(fp16\) does not work with DataParallel; use amp_fp16"),
        ({"model__compile": True}, r"`model.compile` does not work with DataParallel; start with torchrun"),
        ({"model__sync_bn": True}, r"`model.sync_bn` \(true\) does not work with DataParallel; start with torchrun"),
        ({"loss__name": "soft_f1"}, r"`loss.name` \(soft_f1\) does not work with DataParallel; start with torchrun"),
    ],
)
def test_what_it_cannot_do_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_setup(parse_config(changed(tree, **override)), GROUP)


def test_parts_of_different_size_count_by_their_samples() -> None:
    class Square(nn.Module):
        def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
            return {"loss": (images - targets).square().mean(), "mean": images.mean()}

    torch.manual_seed(0)
    images, targets = torch.randn(5), torch.randn(5)
    parts = [Part(Square())(images[share], targets[share]) for share in (slice(0, 2), slice(2, 4), slice(4, 5))]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    assert joined[SAMPLES].tolist() == [2, 2, 1]
    found, whole = mean_over_parts(joined), Square()(images, targets)
    assert found.keys() == whole.keys()
    assert all(found[name].item() == pytest.approx(whole[name].item()) for name in whole)


@pytest.mark.parametrize(
    ("precision", "product"), [("fp32", torch.float32), ("amp_bf16", torch.bfloat16), ("amp_fp16", torch.float16)]
)
def test_a_replica_in_a_thread_computes_in_the_format_asked_for(precision: str, product: torch.dtype) -> None:
    """Entered as DataParallel enters it there, which names no format."""
    seen: list[torch.dtype] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(outputs.dtype)
        return outputs.float().sum()

    number_format = Precision(TrainConfig(global_batch=1, precision=precision), torch.device("cpu"))  # type: ignore[arg-type]
    replica = Supervised(nn.Linear(4, 4), loss, number_format.autocast)

    def run() -> None:
        with torch.amp.autocast("cpu", enabled=precision != "fp32"):
            replica(torch.randn(2, 4), torch.zeros(2))

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [product]
