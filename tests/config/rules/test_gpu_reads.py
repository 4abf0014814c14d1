"""Which optimizers the host waits for on a GPU: what is said at the start is what each of them does on a simulated GPU."""

import warnings
from typing import Any

import pytest
import torch
from timm.optim import get_optimizer_info, list_optimizers
from torch import nn

from dist_train.config import Config, parse_config
from dist_train.config.rules.gpu_reads import note_on_reads, reads_of_a_step
from tests.support.fake_cuda import GPU, FakeGpu, pretend_gpu
from tests.support.ranks import run_ranks
from tests.support.runs import changed

NOT_HERE = ("bnb", "fused", "apex", "kron")
"""How the names begin that need another package, or the compiler."""


def _waits(gpu: FakeGpu, cfg: Config) -> int:
    """How often a second step waits."""
    from dist_train.learning.clipping import clipping
    from dist_train.learning.optimizers.build import build_optimizer, set_lr
    from dist_train.learning.precision import Precision

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3)).to(GPU)
    precision, optimizer = Precision(cfg.train, GPU), build_optimizer(cfg.optim, model, frozenset())

    def clip(grads: list[torch.Tensor], limit: float) -> torch.Tensor:
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))

    for _ in range(2):
        gpu.waits = []
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        set_lr(optimizer, 0.1)
        if precision.scales:
            precision.scaler.scale(torch.zeros((), device=GPU))
        with gpu.noting():
            precision.step(optimizer, clipping(None, clip, frozenset()))
    return len(gpu.waits)


def _found(tree: dict[str, Any], names: list[str]) -> dict[tuple[str, str], tuple[str, int]]:
    warnings.simplefilter("ignore")
    found = {}
    with pretend_gpu() as gpu:
        for name in names:
            for kind, train in KINDS.items():
                cfg = parse_config(changed(tree, optim={"name": name, "lr": 0.1}, **train))
                found[name, kind] = reads_of_a_step(cfg), _waits(gpu, cfg)
    return found


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "skip": {"train__nonfinite": "skip"},
    "scaled": {"train__precision": "amp_fp16"},
}


FEW = ["adamw", "sgd", "rmsprop", "lamb", "adamp", "novograd"]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_is_said_is_what_each_optimizer_does(tree: dict[str, Any], every: bool) -> None:
    known = [name for name in list_optimizers() if not get_optimizer_info(name).second_order]
    names = [*FEW, *(name for name in known if every and not name.startswith(NOT_HERE))]
    [found] = run_ranks(1, _found, tree, list(dict.fromkeys(names)))
    assert len(found) > (200 if every else 15)
    expected = {"": range(1), "one number": range(1, 2), "one number for each weight tensor": range(2, 99)}
    assert {key: (said, waits) for key, (said, waits) in found.items() if waits not in expected[said]} == {}
    assert {said for said, _ in found.values()} == set(expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optim__name": "adamp"}, "`optim.name` (adamp) reads one number for each weight tensor from the GPU in each step"),
        ({"optim__name": "rmsprop", "train__nonfinite": "skip"}, "a step may be skipped (`train.nonfinite`, skip)"),
        ({"optim__name": "lamb", "train__precision": "amp_fp16"}, "skipped (`train.precision`, amp_fp16)"),
        ({"optim__name": "rmsprop"}, ""),
        ({"distributed__strategy": "fsdp", "optim__name": "sgd", "train__nonfinite": "skip"}, "(sgd) reads one number"),
        ({"distributed__strategy": "fsdp", "optim__name": "adamw", "train__nonfinite": "skip"}, ""),
        ({"distributed__strategy": {"name": "fsdp", "cpu_offload": True}, "train__nonfinite": "skip"}, ""),
    ],
)  # fmt: skip
def test_it_is_said_once_at_the_start_on_a_gpu(tree: dict[str, Any], change: dict[str, Any], said: str) -> None:
    cfg = parse_config(changed(tree, **change))
    assert said in note_on_reads(cfg, "cuda")
    assert bool(said) == bool(note_on_reads(cfg, "cuda"))
    assert note_on_reads(cfg, "cpu") == ""
