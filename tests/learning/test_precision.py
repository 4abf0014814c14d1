"""Number formats: dtypes, skipped steps, master weights, TF32."""

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from dist_train.config.sections.train import ClipConfig, TrainConfig
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.single import Single
from dist_train.learning.clipping import clipping
from dist_train.learning.precision import HalfForward, Precision
from tests.support.runs import changed, resumes_exactly, rows, train

CPU = torch.device("cpu")
CLIP = clipping(None, Single(Dist.alone()).clip, frozenset())


@pytest.fixture(autouse=True)
def _switches() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def precision(**options: Any) -> Precision:
    return Precision(TrainConfig(global_batch=1, **options), CPU)


class Spy(nn.Module):
    """Records the dtypes that its forward pass meets."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)
        self.register_buffer("offset", torch.ones(4))
        self.seen: dict[str, torch.dtype] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x + self.offset.to(x.dtype))
        self.seen = {
            "weights": self.linear.weight.dtype,
            "buffer": self.offset.dtype,
            "product": y.dtype,
            "norm": self.norm(y).dtype,
        }
        return self.norm(y)  # type: ignore[no-any-return]


HALF, BF16, FULL = torch.float16, torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("name", "weights", "product", "norm"),
    [
        ("fp32", FULL, FULL, FULL),
        ("amp_bf16", FULL, BF16, None),
        ("amp_fp16", FULL, HALF, None),
        ("fp16", HALF, HALF, HALF),
    ],
)
def test_what_is_computed_in_which_format(name: str, weights: torch.dtype, product: torch.dtype, norm: Any) -> None:
    number_format, spy = precision(precision=name), Spy()
    with number_format.autocast():
        number_format.to_train(spy)(torch.randn(2, 4))
    assert spy.seen["weights"] == spy.seen["buffer"] == weights
    assert spy.seen["product"] == product
    assert norm is None or spy.seen["norm"] == norm
    assert all(p.dtype == FULL for p in spy.parameters()), "the weights that are trained stay float32"


def test_pure_fp16_keeps_small_updates_in_its_master_weights() -> None:
    number_format, module = precision(precision="fp16"), nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    half, optimizer = number_format.to_train(module), torch.optim.SGD(module.parameters(), lr=1e-5)
    for _ in range(50):
        number_format.backward(half(torch.ones(1, 1)).float().sum())
        number_format.step(optimizer, CLIP)
        optimizer.zero_grad()
    assert module.weight.item() == pytest.approx(1 - 50e-5, abs=2e-5)
    assert torch.tensor(1.0, dtype=HALF) - 1e-5 == 1, "in half precision every one of these updates is lost"


def test_pure_fp16_leaves_batch_norms_in_float32_and_updates_their_statistics() -> None:
    module = timm.create_model("test_resnet", num_classes=3)
    before = {name: b.clone() for name, b in module.named_buffers() if name.endswith("running_mean")}
    out = HalfForward(module)(torch.randn(4, 3, 32, 32))
    out.float().sum().backward()
    assert out.dtype == HALF
    assert all(b.dtype == FULL for b in module.buffers() if b.is_floating_point())
    assert all(not torch.equal(module.get_buffer(name), old) for name, old in before.items())
    assert all(p.grad is not None and p.grad.dtype == FULL for p in module.parameters())


@pytest.mark.parametrize("name", ["amp_fp16", "fp16"])
def test_an_overflow_is_skipped_and_lowers_the_scale(name: str) -> None:
    number_format, module = precision(precision=name), nn.Linear(2, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    weight, scale = module.weight.clone(), number_format.scaler.get_scale()
    number_format.backward(module(torch.full((1, 2), 1e30)).sum() * 1e30)
    assert not number_format.step(optimizer, CLIP).isfinite()
    assert torch.equal(module.weight, weight)
    assert not optimizer.state, "no momentum either"
    assert number_format.scaler.get_scale() == scale / 2
    optimizer.zero_grad()
    number_format.backward(module(torch.ones(1, 2)).sum())
    assert number_format.step(optimizer, CLIP).item() == pytest.approx(3**0.5), "the norm is of the unscaled gradient"
    assert module.weight[0, 0].item() == pytest.approx(weight[0, 0].item() - 0.1)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_skipping_without_a_scale(kind: type[torch.optim.Optimizer], fused: bool) -> None:
    assert not precision().skips
    skipping = precision(nonfinite="skip")
    assert skipping.skips
    assert not skipping.scales
    sides = [nn.Linear(1, 1) for _ in range(2)]
    sides[1].load_state_dict(sides[0].state_dict())
    plain, other = (kind(side.parameters(), lr=0.1, fused=fused) for side in sides)  # type: ignore[call-arg]
    for value in (1.0, torch.nan, -2.0, torch.inf, 3.0):
        if abs(value) < torch.inf:
            precision().backward(sides[0](torch.tensor([[value]])).square().sum())
            precision().step(plain, CLIP)
        skipping.backward(sides[1](torch.tensor([[value]])).square().sum())
        skipping.step(other, CLIP)
        plain.zero_grad(), other.zero_grad()
        assert torch.equal(sides[0].weight, sides[1].weight)
    assert str(plain.state_dict()) == str(other.state_dict())
    assert skipping.state_dict()["scale"] == 1


def test_clipping_is_of_the_whole_gradient() -> None:
    number_format, module = precision(), nn.Linear(2, 2)
    clip = clipping(ClipConfig(value=1.0), Single(Dist.alone()).clip, frozenset())
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    before = torch.cat([p.detach().flatten() for p in module.parameters()])
    number_format.backward(module(torch.full((1, 2), 10.0)).sum())
    norm = number_format.step(optimizer, clip)
    after = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert norm.item() == pytest.approx((4 * 100 + 2) ** 0.5)
    assert (after - before).norm().item() == pytest.approx(1.0, rel=1e-4)


def test_the_switch_for_tf32() -> None:
    for on in (True, False):
        precision(tf32=on)
        assert torch.backends.cuda.matmul.allow_tf32 is on
        assert torch.backends.cudnn.allow_tf32 is on


@pytest.mark.parametrize("name", ["amp_bf16", pytest.param("amp_fp16", marks=pytest.mark.slow), "fp16"])
def test_a_run_in_each_format_learns_and_counts_what_it_skips(tree: dict[str, Any], name: str) -> None:
    tree = changed(tree, model={"name": "test_resnet", "pretrained": False}, train__precision=name, log__every_steps=5)
    run = train(tree, 2)
    last = rows(run, "train")[-1]
    assert last["loss"] < 1
    assert ("loss_scale" in last) == (name != "amp_bf16")
    if name != "amp_bf16":
        assert last["loss_scale"] == 2.0 ** (16 - last["skipped_steps"])


def test_pure_fp16_resumes_bit_for_bit(tree: dict[str, Any]) -> None:
    tree = changed(tree, train__precision="fp16", train__epochs=1, train__ema=0.9)
    tree = changed(tree, checkpoint={"every_steps": 1, "keep": 100})
    resumes_exactly(tree, 1, kept=2)
