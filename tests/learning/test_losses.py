"""The criterion that a config names: auxiliary heads, the penalty, ranks and micro-batches, a loss of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from dist_train.config.sections.loss import ClassBalanceConfig, LossConfig
from dist_train.errors import ConfigError
from dist_train.learning.losses import balancing_weights, build_loss, log_shares
from tests.support.losses import ALONE, CLASSES, COUNTS, LABELS, LOGITS, MANY, SOFT, loss_of
from tests.support.runs import changed, rows, train
from tests.support.tables import tabled


def test_l1_penalty_is_over_all_that_trains() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    module[0].requires_grad_(False)
    loss = build_loss(LossConfig(l1=0.1), CLASSES, COUNTS, ALONE, module)
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
        (
            {"class_weights": {"bb": 2.0}},
            r"`loss.class_weights` \(bb\) is not a class of the data; use one of its classes: b, ",
        ),
        ({"name": "tests.learning.test_losses:Scaled"}, "do not fit tests.learning.test_losses:Scaled: .*factor"),
        (
            {"name": "tests.learning.test_losses:halved", "options": {"x": 1}},
            "do not fit tests.learning.test_losses:halved: .*'x'",
        ),
        (
            {"name": "tests.learning.test_losses:Learned"},
            "has trainable parameters, which a loss must not have; use buffers, or an objective",
        ),
        ({"name": "tests.learning.test_losses:Missing"}, "tests.learning.test_losses has no Missing"),
        (
            {"name": "nowhere.at_all:Loss"},
            "there is no module nowhere; start from its folder, or add its folder to PYTHONPATH",
        ),
        ({"name": "tests.learning.test_losses:CLASSES"}, "must be a function or a class, not list"),
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


def weights_of(**options: Any) -> list[float]:
    return balancing_weights(ClassBalanceConfig(**options), np.array([900, 90, 10, 0])).tolist()


def test_balanced_classes_are_scikit_learns() -> None:
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert weights_of(name="balanced") == pytest.approx([*expected, 1.0])


def test_the_power_lies_between_balanced_and_none() -> None:
    assert weights_of(name="balanced", power=1e-9) == pytest.approx([1.0] * 4)
    half = weights_of(name="balanced", power=0.5)
    assert half[2] / half[0] == pytest.approx((900 / 10) ** 0.5)


def test_the_effective_number_is_that_of_the_paper() -> None:
    first, _, last, _ = weights_of(name="effective_number", beta=0.99)
    assert last / first == pytest.approx((1 - 0.99**900) / (1 - 0.99**10))


def test_the_mean_factor_of_an_image_is_one() -> None:
    for name in ("balanced", "effective_number"):
        assert np.dot(weights_of(name=name, power=0.7), [900, 90, 10, 0]) == pytest.approx(1000)


def test_a_balanced_loss_has_the_weights_of_the_counts() -> None:
    factors = balancing_weights(ClassBalanceConfig(name="balanced"), COUNTS).tolist()
    listed = loss_of(class_weights=dict(zip(CLASSES, factors, strict=True)))
    assert loss_of(class_balance="balanced")(LOGITS, LABELS) == listed(LOGITS, LABELS)


@pytest.mark.parametrize(
    ("options", "targets"),
    [
        ({}, LABELS),
        ({"label_smoothing": 0.1, "class_weights": {"a": 3.0}}, LABELS),
        ({"logit_adjustment": 1.0}, SOFT),
        ({"name": "focal", "class_balance": "balanced"}, LABELS),
        ({"name": "bce", "options": {"sum_classes": True}}, LABELS),
        ({"name": "bce"}, MANY),
        ({"name": "binary_focal"}, MANY),
        ({"name": "asymmetric"}, MANY),
        ({"name": "mse"}, SOFT),
        ({"name": "l1"}, SOFT),
        ({"name": "huber"}, SOFT),
    ],
)
def test_weights_of_samples_multiply_their_losses(options: dict[str, Any], targets: Tensor) -> None:
    loss, weights = loss_of(**options), torch.tensor([0.0, 1.0, 2.5, 1.0, 0.5, 1.0, 1.0, 3.0])
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits, (targets, weights))
    each = [loss(LOGITS[place : place + 1], targets[place : place + 1]) for place in range(8)]
    expected = sum(weight * one for weight, one in zip(weights.tolist(), each, strict=True)) / 8
    assert value.item() == pytest.approx(float(expected), rel=1e-5)
    value.backward()
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all(), "an image of weight 0 teaches nothing"
    assert torch.isfinite(logits.grad).all()
    assert loss(LOGITS, (targets, torch.ones(8))).item() == pytest.approx(loss(LOGITS, targets).item(), rel=1e-5)


def test_weighted_samples_give_the_same_loss_on_any_ranks(
    tree: dict[str, Any], image_folder: Path, tmp_path: Path
) -> None:
    root = tabled(image_folder, tmp_path / "table", "regression")
    head, *lines = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text("\n".join([f"{head},w", *(f"{line},{n % 4}" for n, line in enumerate(lines))]))
    data = {"format": "csv", "root": str(root), "task": "regression", "csv": {"targets": ["red"], "weight": "w"}}
    tree = changed(tree, loss__name="mse", eval__metric="mae", augment={"hflip": 0.0}, train__max_steps=4)
    tree = changed(tree, data=data | {"image_size": 32, "workers": 0}, log__every_steps=1)
    ways: list[tuple[int, dict[str, Any]]] = [(1, {}), (2, {}), (1, {"train__micro_batch": 3})]
    traces = [rows(train(tree, world, run__name=f"w{n}", **keys), "train") for n, (world, keys) in enumerate(ways)]
    losses = [[row["loss"] for row in trace] for trace in traces]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)
    tree["data"]["csv"] = {"targets": ["red"]}
    plain = [row["loss"] for row in rows(train(tree, run__name="plain"), "train")]
    assert plain[0] != pytest.approx(losses[0][0], rel=1e-3)


def test_logit_adjustment_is_the_formula_of_the_paper() -> None:
    shares = torch.from_numpy(np.maximum(COUNTS, 1) / np.maximum(COUNTS, 1).sum()).float()
    for tau in (1.0, 0.5):
        adjusted = F.cross_entropy(LOGITS + tau * shares.log(), LABELS)
        assert loss_of(logit_adjustment=tau)(LOGITS, LABELS) == pytest.approx(adjusted.item())
    soft = F.one_hot(LABELS, len(CLASSES)).float().roll(1, 0) * 0.4 + F.one_hot(LABELS, len(CLASSES)) * 0.6
    mixed = loss_of(logit_adjustment=1.0)(LOGITS, soft)
    assert mixed == pytest.approx(-(soft * (LOGITS + shares.log()).log_softmax(1)).sum(1).mean().item())
    assert torch.isfinite(log_shares(np.array([5, 0]))).all()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "bce",
            {"threshold": 1},
            r"\(threshold\): bce has no such option; it has target_threshold, sum_classes, pos_weight",
        ),
        ("bce", {"pos_weight": "3"}, r"\(pos_weight: '3'\) must be a number"),
        ("asymmetric", {"gamma": 1}, r"it has gamma_pos, gamma_neg, clip"),
    ],
)
def test_options_that_do_not_fit(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        loss_of(name=name, options=options)
