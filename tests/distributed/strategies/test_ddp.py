"""DistributedDataParallel on real ranks."""

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.config.sections.model import CompileConfig
from dist_train.distributed.group import joined
from dist_train.distributed.strategies.ddp import Ddp, _bucket_mb
from dist_train.training.parts.compiled import compile_model
from dist_train.training.parts.trial import left_as_found
from tests.support.ranks import run_ranks
from tests.support.runs import changed, rows, state_digest, train


class Small(nn.Module):
    """Convolution, BatchNorm and dropout, and the loss of what they give."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        torch.manual_seed(rank)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(16, 2))
        self.layers[1].running_mean.fill_(rank)  # type: ignore[operator, union-attr]

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(self.layers(images), targets)}


def _settled() -> tuple[dict[str, list[float]], dict[str, list[float]], bool, bool]:
    """The state before and after; whether gradients, and the generator's state, are as before."""
    with joined(DistributedConfig(timeout_s=30)) as group:
        strategy, module = Ddp(group), Small(group.rank)
        wrapped = strategy.wrap(module, all_used=True)
        before = {name: value.flatten().tolist() for name, value in module.state_dict().items()}
        generator = torch.get_rng_state()
        with left_as_found(module, group.device):
            strategy.settle(wrapped, torch.zeros(2, 3, 2, 2), torch.zeros(2, dtype=torch.int64))
        after = {name: value.flatten().tolist() for name, value in module.state_dict().items()}
        no_gradients = all(p.grad is None for p in module.parameters())
        return before, after, no_gradients, torch.equal(generator, torch.get_rng_state())


def test_all_ranks_get_the_state_of_rank_0_and_settling_leaves_nothing_behind() -> None:
    (before, after, *same), other = run_ranks(2, _settled)
    assert other == (before, after, *same)
    assert before["layers.1.running_mean"] == [0.0] * 4
    assert after == before
    assert same == [True, True]


def _order_of_buckets(settled: bool) -> list[list[int]]:
    """The sizes of the gradients in the buckets, in the order in which two steps exchange them."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    steps: list[list[int]] = []

    def hook(group, bucket):  # no annotations: torch checks them
        steps[-1] += [gradient.numel() for gradient in bucket.gradients()]
        return allreduce_hook(group, bucket)

    with joined(DistributedConfig(timeout_s=30)) as group:
        strategy, module = Ddp(group), Small(group.rank)
        wrapped = strategy.wrap(module, all_used=True)
        images, targets = torch.ones(2, 3, 2, 2), torch.zeros(2, dtype=torch.int64)
        if settled:
            strategy.settle(wrapped, images, targets)
        wrapped.register_comm_hook(None, hook)  # type: ignore[operator]
        for _ in range(2):
            steps.append([])
            wrapped(images, targets)["loss"].backward()
    return steps


@pytest.mark.parametrize("settled", [True, False])
def test_buckets_keep_their_order_once_settled(settled: bool) -> None:
    """Otherwise the first step sums in another order than those after it."""
    first, other = run_ranks(2, _order_of_buckets, settled)
    assert first == other
    assert (first[0] == first[1]) == settled


def _accumulated() -> list[float]:
    with joined(DistributedConfig(timeout_s=30)) as group:
        strategy, module = Ddp(group), nn.Linear(1, 1, bias=False)
        wrapped = strategy.wrap(module, all_used=True)
        found = []
        with strategy.accumulate(wrapped):
            wrapped(torch.full((1, 1), float(group.rank + 1))).sum().backward()
        assert module.weight.grad is not None
        found.append(module.weight.grad.item())
        wrapped(torch.full((1, 1), 10.0 * (group.rank + 1))).sum().backward()
        return [*found, module.weight.grad.item()]


class Sometimes(nn.Module):
    """Its second weight takes part where the sum of the images is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.always * images.sum() + (self.sometimes * images.sum() if images.sum() > 0 else 0.0)


def _with_unused(used_first: bool, used_last: bool) -> tuple[list[str], float | None]:
    """Two micro-batches that leave out a weight on rank 1: what the check says, and the gradient if unused ones are allowed."""
    with joined(DistributedConfig(timeout_s=30)) as group:
        strategy = Ddp(group)
        sizes = [1.0 if group.is_main or used else -1.0 for used in (used_first, used_last)]
        wrapped = strategy.wrap(Sometimes(), all_used=False)
        with strategy.accumulate(wrapped):
            wrapped(torch.full((1,), sizes[0])).backward()
        wrapped(torch.full((1,), sizes[1])).backward()
        assert strategy.unused(wrapped) == []
        gradient = wrapped.module.sometimes.grad
        strict = strategy.wrap(Sometimes(), all_used=True)
        # Ranks alike, for a rank that leaves out nothing would wait for the others.
        strict(torch.full((1,), -1.0)).backward()
        return strategy.unused(strict), None if gradient is None else gradient.item()


@pytest.mark.parametrize(
    ("used_first", "used_last", "mean"), [(True, False, 1.5), (False, True, 1.5), (False, False, 1.0)]
)
def test_a_weight_without_gradient_is_named_or_allowed(used_first: bool, used_last: bool, mean: float) -> None:
    """Allowed, a weight gets the mean over ranks of what each rank's micro-batches gave it."""
    assert run_ranks(2, _with_unused, used_first, used_last) == [(["sometimes"], mean)] * 2


def test_ranks_exchange_gradients_at_the_last_micro_batch_only() -> None:
    mean = (1 + 2 + 10 + 20) / 2
    assert run_ranks(2, _accumulated) == [[1.0, mean], [2.0, mean]]


def _gradient(gradient_dtype: str) -> list[float]:
    with joined(DistributedConfig(timeout_s=30)) as group:
        strategy = Ddp(group)
        strategy.gradient_dtype = gradient_dtype
        wrapped = strategy.wrap(Small(0).eval(), all_used=True)
        images = torch.arange(24.0).reshape(2, 3, 2, 2) / (8 + group.rank)
        wrapped(images, torch.tensor([0, 1]))["loss"].backward()
        return [value for p in wrapped.parameters() if p.grad is not None for value in p.grad.flatten().tolist()]


def test_gradients_in_bf16_are_nearly_those_in_fp32() -> None:
    exact, _ = map(torch.tensor, run_ranks(2, _gradient, "fp32"))
    first, second = map(torch.tensor, run_ranks(2, _gradient, "bf16"))
    assert torch.equal(first, second)
    assert not torch.equal(first, exact)
    assert torch.equal(first, first.bfloat16().float()), "each number is one of bf16"
    assert torch.allclose(first, exact, rtol=2**-6, atol=float(exact.abs().max()) * 2**-8)


def test_a_resumed_run_with_gradients_in_bf16_is_exact(tree: dict[str, Any]) -> None:
    tree = changed(tree, distributed__gradient_dtype="bf16", checkpoint={"every_steps": 1, "keep": 100})
    straight, resumed = (train(tree, 2, run__name=name) for name in ("straight", "resumed"))
    for checkpoint in sorted((resumed / "checkpoints").iterdir())[4:]:
        shutil.rmtree(checkpoint)
    train(tree, 2, run__name="resumed")
    assert state_digest(resumed) == state_digest(straight)
    other = train(changed(tree, distributed__gradient_dtype="fp32"), 2, run__name="fp32")
    assert state_digest(other) != state_digest(straight)
    losses = [[row["loss"] for row in rows(run, "train")] for run in (other, straight)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


class Block(nn.Sequential):
    """Before torch 2.14 a plain ``nn.Sequential`` is not compiled inside of DDP."""

    def forward(self, images: Tensor) -> Tensor:
        for layer in self:
            images = layer(images)
        return images


class Deep(nn.Module):
    """Two blocks of ``layers`` layers of 4 MiB each."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(*(skip_init(nn.Linear, 1024, 1024, bias=False) for _ in range(layers))) for _ in range(2)
        )

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        for block in self.blocks:
            images = block(images)
        return {"loss": images.square().mean()}


def _graphs(layers: int, one_graph: bool, blocks: bool) -> tuple[int, list[float]]:
    """Return how many graphs torch makes of the model of a rank, and sums of its gradients."""
    graphs, compile_part = [], nn.Module.compile

    def counted(part: nn.Module, **options: Any) -> None:
        def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
            graphs.append(graph)
            return graph.forward

        compile_part(part, backend=backend, dynamic=options["dynamic"])

    nn.Module.compile = counted  # type: ignore[method-assign]  # without torch's code generator, which takes minutes
    with joined(DistributedConfig(timeout_s=60)) as group:
        module = Deep(layers)
        for weights in module.parameters():
            weights.data.fill_(1e-3)
        compile_model(module, CompileConfig(blocks=blocks))
        strategy = Ddp(group)
        strategy.one_graph = one_graph
        wrapped = strategy.wrap(module, all_used=True)
        torch.manual_seed(group.rank)
        wrapped(torch.randn(2, 1024), torch.zeros(2))["loss"].backward()
        return len(graphs), [p.grad.abs().sum().item() for p in module.parameters() if p.grad is not None]


@pytest.mark.slow
def test_a_compiled_model_is_cut_into_few_graphs() -> None:
    """256 MiB of gradients, of which a bucket holds a quarter, in place of 25 MiB; on two ranks the sums are the same."""
    [(few, sums), _], [(many, others), _] = (run_ranks(2, _graphs, 32, one, False) for one in (True, False))
    assert (few, many) == (5, 10)
    assert np.isfinite(sums).all()
    assert sums == others


def test_a_compiled_block_is_not_cut() -> None:
    """Two blocks of three layers; torch would cut each after its first bucket of 1 MiB."""
    assert [graphs for graphs, _ in run_ranks(2, _graphs, 3, False, True)] == [2, 2]


@pytest.mark.parametrize(("layers", "expected"), [(1, 25), (32, 64)])
def test_a_bucket_of_a_compiled_model_holds_a_quarter_of_its_gradients(layers: int, expected: int) -> None:
    model = Deep(layers)
    assert _bucket_mb(model) == expected
    model.blocks[0].requires_grad_(False)
    assert _bucket_mb(model) == max(25, expected // 2)
