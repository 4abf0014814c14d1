"""Parameter groups, and the optimizer that a config names."""

from typing import Any

import pytest
import timm.optim
import torch
from torch import nn

from dist_train.config.sections.optim import OptimConfig
from dist_train.config.sections.train import TrainConfig
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.single import Single
from dist_train.errors import ConfigError
from dist_train.learning.clipping import clipping
from dist_train.learning.optimizers.build import build_optimizer
from dist_train.learning.precision import Precision
from tests.support.runs import changed, resumes_exactly

HEAD = frozenset({"1.weight", "1.bias"})


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


def test_options_reach_the_constructor() -> None:
    cfg = OptimConfig(name="muon", lr=0.1, options={"ns_steps": 3})
    assert build_optimizer(cfg, two_layers(), HEAD).defaults["ns_steps"] == 3
    cfg = OptimConfig(name="sgd", lr=0.1, options={"maximize": True})
    assert build_optimizer(cfg, two_layers(), HEAD).defaults["maximize"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"momentum": 0.5}, r"`optim.options` \(momentum\) is a key of its own; set `optim.momentum`"),
        ({"nestrov": True}, r"`optim.name` \(sgd\) cannot be built: .*nestrov"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_optimizer(OptimConfig(name="sgd", lr=0.1, options=options), two_layers(), HEAD)


@pytest.mark.parametrize(
    ("options", "kind", "values"),
    [
        ({"name": "sgd", "nesterov": True}, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        ({"name": "adam", "betas": (0.8, 0.9), "eps": 1e-3}, torch.optim.Adam, {"betas": (0.8, 0.9), "eps": 1e-3}),
        ({"name": "adamw"}, torch.optim.AdamW, {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}),
        ({"name": "rmsprop", "momentum": 0.5, "alpha": 0.9}, torch.optim.RMSprop, {"momentum": 0.5, "alpha": 0.9}),
        ({"name": "lamb", "betas": (0.8, 0.9)}, timm.optim.Lamb, {"betas": (0.8, 0.9), "weight_decay": 0.01}),
        ({"name": "Lion"}, timm.optim.Lion, {"betas": (0.9, 0.999)}),
        ({"name": "rmsproptf", "momentum": 0.7}, timm.optim.RMSpropTF, {"momentum": 0.7}),
    ],
)
def test_optimizers_by_name(options: dict[str, Any], kind: type, values: dict[str, Any]) -> None:
    optimizer = build_optimizer(OptimConfig(lr=0.1, weight_decay=0.01, **options), two_layers(), HEAD)
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert group["lr"] == 0.1
        assert {key: group[key] for key in values} == values


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_a_capital_letter_makes_no_other_optimizer(name: str) -> None:
    ours, theirs = (build_optimizer(OptimConfig(name=n, lr=0.1), two_layers(), HEAD) for n in (name, name.lower()))
    assert type(ours) is type(theirs)
    assert ours.defaults == theirs.defaults, "timm's sgd has Nesterov's momentum"


@pytest.mark.parametrize("name", ["rmsprop", "muon", "adafactor"])
def test_other_optimizers_resume_bit_for_bit(tree: dict[str, Any], name: str) -> None:
    tree = changed(tree, optim={"name": name, "lr": 1e-3}, train__epochs=1, checkpoint={"every_steps": 1, "keep": 100})
    resumes_exactly(tree, 1, kept=2)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_torchs_optimizers_are_fused_and_a_skipped_first_step_leaves_them_as_new(name: str) -> None:
    """A fused SGD would otherwise make its momentum in the step that is skipped, of memory as it is found."""
    results = []
    for skip_first in (False, True):
        module = two_layers()
        optimizer = build_optimizer(OptimConfig(name=name, lr=0.1, weight_decay=0.01), module, HEAD)
        assert all(group["fused"] for group in optimizer.param_groups)
        number_format = Precision(TrainConfig(global_batch=1, nonfinite="skip"), torch.device("cpu"))
        for value in ([torch.inf] if skip_first else []) + [1.0, 2.0]:
            number_format.backward(module(torch.full((1, 4), value)).square().sum())
            number_format.step(optimizer, clipping(None, Single(Dist.alone()).clip, frozenset()))
            optimizer.zero_grad()
        results.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(*results)


def test_the_first_step_of_our_sgd_is_torchs() -> None:
    results = []
    for ours in (True, False):
        module = two_layers()
        optimizer: torch.optim.Optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        if ours:
            optimizer = build_optimizer(OptimConfig(lr=0.1, nesterov=True), module, HEAD)
        for _ in range(3):
            module(torch.ones(1, 4)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert results[0].numpy() == pytest.approx(results[1].numpy(), rel=1e-6)
