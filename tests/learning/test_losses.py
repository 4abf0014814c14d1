"""Each loss against its definition, and what it does over ranks and micro-batches."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from dist_train.config import Config, parse_config
from dist_train.config.plan import make_plan
from dist_train.config.sections.loss import LossConfig
from dist_train.distributed.group import Dist, joined
from dist_train.distributed.strategies.base import Strategy
from dist_train.distributed.strategies.ddp import Ddp
from dist_train.distributed.strategies.single import Single
from dist_train.errors import ConfigError
from dist_train.learning.losses import Loss, build_loss
from dist_train.learning.objective import Supervised
from tests.support.ranks import run_ranks
from tests.support.runs import changed, rows, train

ALONE = Dist.alone()
CLASSES = ["a", "b", "c"]
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(8, 3, generator=GENERATOR)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
SOFT = torch.rand(8, 3, generator=GENERATOR).softmax(1)
MANY = (torch.rand(8, 3, generator=GENERATOR) > 0.5).float()


def loss_of(**options: Any) -> Loss:
    return build_loss(LossConfig(**options), CLASSES, ALONE, nn.Linear(1, 1))


def test_cross_entropy_of_labels_and_soft_labels() -> None:
    log_p = LOGITS.log_softmax(1)
    assert loss_of()(LOGITS, LABELS) == pytest.approx(-log_p[range(8), LABELS].mean())
    assert loss_of()(LOGITS, SOFT) == pytest.approx(-(SOFT * log_p).sum(1).mean())


def test_label_smoothing_is_of_labels_only() -> None:
    smoothed = F.one_hot(LABELS, 3) * 0.9 + 0.1 / 3
    smoothing = loss_of(label_smoothing=0.1)
    assert smoothing(LOGITS, LABELS) == pytest.approx(loss_of()(LOGITS, smoothed))
    assert torch.equal(smoothing(LOGITS, SOFT), loss_of()(LOGITS, SOFT)), "Mixup has smoothed them already"


def test_ten_times_on_one_class_is_the_plain_mean_of_weighted_samples() -> None:
    each = F.cross_entropy(LOGITS, LABELS, reduction="none")
    expected = (each * torch.tensor([1.0, 10, 1, 1, 10, 1, 1, 1])).mean()
    weighted = loss_of(class_weights={"b": 10.0})
    assert weighted(LOGITS, LABELS) == pytest.approx(expected)
    without_b = LABELS != 1
    torch.testing.assert_close(
        weighted(LOGITS[without_b], LABELS[without_b]), loss_of()(LOGITS[without_b], LABELS[without_b])
    )  # a batch without the class is as if there were no weights
    mixed = 0.3 * F.one_hot(LABELS, 3) + 0.7 * F.one_hot(LABELS.flip(0), 3)
    assert weighted(LOGITS, mixed) == pytest.approx(
        0.3 * weighted(LOGITS, LABELS) + 0.7 * weighted(LOGITS, LABELS.flip(0))
    )


def test_bce_is_timms_for_labels_and_torchs_for_several() -> None:
    assert loss_of(name="bce", label_smoothing=0.1)(LOGITS, LABELS) == pytest.approx(
        BinaryCrossEntropy(smoothing=0.1)(LOGITS, LABELS)
    )
    assert loss_of(name="bce")(LOGITS, MANY) == pytest.approx(F.binary_cross_entropy_with_logits(LOGITS, MANY))
    each = F.binary_cross_entropy_with_logits(LOGITS, MANY, reduction="none")
    assert loss_of(name="bce", class_weights={"a": 3.0})(LOGITS, MANY) == pytest.approx(
        (each * torch.tensor([3.0, 1, 1])).mean()
    )


def test_focal() -> None:
    log_p = LOGITS.log_softmax(1)[range(8), LABELS]
    assert loss_of(name="focal", gamma=1.5)(LOGITS, LABELS) == pytest.approx(
        (-((1 - log_p.exp()) ** 1.5) * log_p).mean()
    )
    assert loss_of(name="focal", gamma=0.0, label_smoothing=0.1)(LOGITS, LABELS) == pytest.approx(
        loss_of(label_smoothing=0.1)(LOGITS, LABELS)
    )
    assert loss_of(name="focal", gamma=0.0, class_weights={"c": 4.0})(LOGITS, LABELS) == pytest.approx(
        loss_of(class_weights={"c": 4.0})(LOGITS, LABELS)
    )


@pytest.mark.parametrize(("name", "targets"), [("focal", torch.tensor([0])), ("binary_focal", torch.tensor([[1.0, 0.0, 0.0]]))])  # fmt: skip
def test_what_is_all_right_has_a_finite_gradient(name: str, targets: Tensor) -> None:
    logits = torch.tensor([[100.0, -100.0, -100.0]], requires_grad=True)
    loss_of(name=name, gamma=0.5)(logits, targets).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all(), "the slope of p ** 0.5 at 0 is infinite"


def test_binary_focal_is_torchvisions() -> None:
    assert loss_of(name="binary_focal", gamma=2.0)(LOGITS, MANY) == pytest.approx(
        sigmoid_focal_loss(LOGITS, MANY, alpha=-1, gamma=2, reduction="mean")
    )


def test_regression_losses() -> None:
    assert loss_of(name="mse")(LOGITS, SOFT) == pytest.approx(((LOGITS - SOFT) ** 2).mean())
    assert loss_of(name="l1")(LOGITS, SOFT) == pytest.approx((LOGITS - SOFT).abs().mean())
    assert loss_of(name="huber", delta=0.5)(LOGITS, SOFT) == pytest.approx(F.huber_loss(LOGITS, SOFT, delta=0.5))
    with pytest.raises(ConfigError, match=r"needs a number for each output, \(8, 3\), and the data gives class labels"):
        loss_of(name="mse")(LOGITS, LABELS)
    with pytest.raises(ConfigError, match=r"targets of shape \(8,\)"):
        loss_of(name="l1")(LOGITS, SOFT[:, 0])


def test_soft_f1_of_certain_and_right_predictions_is_zero_loss() -> None:
    certain = F.one_hot(LABELS, 3) * 200.0
    assert loss_of(name="soft_f1")(certain, LABELS) == pytest.approx(0, abs=1e-6)
    assert loss_of(name="soft_f1")(certain.roll(1, 1), LABELS) == pytest.approx(1, abs=1e-6)
    p, y = LOGITS.sigmoid(), MANY
    f1 = 2 * (p * y).sum(0) / (p.sum(0) + y.sum(0))
    assert loss_of(name="soft_f1")(LOGITS, MANY) == pytest.approx(1 - f1.mean())


def soft_f1_on_ranks(cfg: Config) -> tuple[float, Tensor]:
    """Loss and weight gradient of this rank's share of the batch, averaged as DDP does."""
    with joined(cfg.distributed) as group:
        layer = nn.Linear(3, 3)
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
        objective = Supervised(layer, build_loss(cfg.loss, CLASSES, group, layer))
        strategy: Strategy = Ddp(group) if group.world_size > 1 else Single(group)
        share = slice(group.rank, None, group.world_size)
        wrapped = strategy.wrap(objective, all_used=True)
        loss = wrapped(LOGITS[share], MANY[share])
        loss.backward()
        assert layer.weight.grad is not None
        return loss.item(), layer.weight.grad.numpy()


def test_soft_f1_over_ranks_is_that_of_the_whole_batch(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, loss__name="soft_f1"))
    ((loss, gradient),) = run_ranks(1, soft_f1_on_ranks, cfg)
    for other_loss, other_gradient in run_ranks(2, soft_f1_on_ranks, cfg):
        assert other_loss == pytest.approx(loss, abs=1e-6)
        assert other_gradient == pytest.approx(gradient, abs=1e-6)
    assert abs(gradient).max() > 1e-3


def test_soft_f1_of_parts_of_a_batch_is_refused(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, loss__name="soft_f1", train__micro_batch=3))
    with pytest.raises(ConfigError, match=r"`loss.name` \(soft_f1\) is a ratio .* use train.micro_batch=6"):
        make_plan(cfg, 60, 2)
    make_plan(parse_config(changed(tree, loss__name="soft_f1", train__micro_batch=6)), 60, 2)


def test_l1_penalty_is_over_all_that_trains() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    module[0].requires_grad_(False)
    loss = build_loss(LossConfig(l1=0.1), CLASSES, ALONE, module)
    penalty = 0.1 * sum(p.abs().sum() for p in module[1].parameters())
    value = loss(LOGITS, LABELS)
    assert value.item() == pytest.approx((loss_of()(LOGITS, LABELS) + penalty).item())
    value.backward()  # type: ignore[no-untyped-call]
    assert module[1].weight.grad is not None
    assert torch.equal(module[1].weight.grad, 0.1 * module[1].weight.sign())


@pytest.mark.parametrize("loss", [{"l1": 0.01}, {"name": "soft_f1"}, {"class_weights": {"class_a": 10.0}}])
def test_the_same_global_batch_gives_the_same_loss_on_any_ranks(tree: dict[str, Any], loss: dict[str, Any]) -> None:
    tree = changed(tree, loss=loss, augment={"hflip": 0.0}, train__max_steps=4, log__every_steps=1)
    traces = [[row["loss"] for row in rows(train(tree, world, run__name=f"w{world}"), "train")] for world in (1, 2)]
    assert len(traces[0]) == 4
    assert traces[1] == pytest.approx(traces[0], rel=1e-4)


def test_accumulated_micro_batches_count_the_penalty_once(tree: dict[str, Any]) -> None:
    tree = changed(tree, loss={"l1": 0.01}, augment={"hflip": 0.0}, train__max_steps=3, log__every_steps=1)
    whole = rows(train(tree, run__name="whole"), "train")
    parts = rows(train(tree, run__name="parts", train__micro_batch=3), "train")
    assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in whole], rel=1e-4)


def test_auxiliary_heads_count_by_their_weight() -> None:
    loss = loss_of(aux_weight=0.3)
    single = loss_of()(LOGITS, LABELS)
    assert loss((LOGITS, LOGITS, None, LOGITS), LABELS) == pytest.approx((1.6 * single).item())


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.factor * F.cross_entropy(outputs, targets)


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


def halved(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets) / 2


def test_a_loss_of_your_own() -> None:
    own = loss_of(name="tests.learning.test_losses:Scaled", options={"factor": 3.0})
    assert own(LOGITS, LABELS) == pytest.approx((3 * loss_of()(LOGITS, LABELS)).item())
    assert loss_of(name="tests.learning.test_losses:halved")(LOGITS, LABELS) == pytest.approx(
        (loss_of()(LOGITS, LABELS) / 2).item()
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "mse", "label_smoothing": 0.1}, r"`loss.label_smoothing` \(0.1\) is for cross_entropy, bce"),
        ({"name": "soft_f1", "class_weights": {"a": 2.0}}, r"`loss.class_weights` .* and `loss.name` is soft_f1"),
        ({"class_weights": {"bb": 2.0}}, r"`loss.class_weights` \(bb\) names no class of the data; there are b, "),
        ({"options": {"x": 1}}, r"`loss.options` .* are for a loss of your own, and `loss.name` is cross_entropy"),
        ({"name": "tests.learning.test_losses:Scaled"}, "do not fit tests.learning.test_losses:Scaled: .*factor"),
        (
            {"name": "tests.learning.test_losses:halved", "options": {"x": 1}},
            "do not fit tests.learning.test_losses:halved: .*'x'",
        ),
        ({"name": "tests.learning.test_losses:Learned"}, "has parameters to train; use buffers, or an objective"),
        ({"name": "tests.learning.test_losses:Missing"}, "tests.learning.test_losses has no Missing"),
        (
            {"name": "nowhere.at_all:Loss"},
            "there is no module nowhere; start from its folder or add that to PYTHONPATH",
        ),
        ({"name": "tests.learning.test_losses:CLASSES"}, "must be a function or a class, and is list"),
    ],
)
def test_a_loss_that_cannot_be_built_is_an_error(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        loss_of(**options)


def test_a_loss_of_your_own_returns_one_number() -> None:
    with pytest.raises(
        ConfigError, match=r"`loss.name` \(tests.learning.test_losses:of_each\) must return one number, .* \[8\]"
    ):
        loss_of(name="tests.learning.test_losses:of_each")(LOGITS, LABELS)


def of_each(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def test_an_unknown_loss_names_the_nearest(tree: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"`loss.name`: 'crossentropy' must be one of .*; did you mean cross_entropy\?"
    ):
        parse_config(changed(tree, loss__name="crossentropy"))
