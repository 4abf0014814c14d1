"""The trainer computes what a plain loop without any of its code computes: losses, rates, gradient norms, weights."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.nn.functional import cross_entropy

from dist_train.checkpoint.stored import load
from tests.support.runs import rows
from tests.support.runs import train as trained
from tests.whole_runs.plain_loop import Recipe, adamw, read_images, sgd, train, warm_cosine

STEPS = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 training images of 3 classes, 32 px, without loss, so that nothing is resized."""
    root, rng = tmp_path_factory.mktemp("plain"), np.random.default_rng(3)
    for split, count in (("train", 48), ("val", 6)):
        for number in range(count):
            pixels = rng.integers(0, 150, (32, 32, 3), dtype=np.uint8)
            pixels[:: number % 3 + 2, :, number % 3] += 90
            path = root / split / "abc"[number % 3] / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The initial weights of every run: a ViT's, with a head that is not zero."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=3, img_size=32, depth=2)
    nn.init.normal_(model.get_classifier().weight, std=0.1)
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    save_file(model.state_dict(), path)
    return path


def by_layer(model: nn.Module) -> torch.optim.Optimizer:
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.7)
    return torch.optim.AdamW(groups, lr=1.0, eps=1e-3)


def weighted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (torch.tensor([1.0, 4.0, 0.5])[labels] * cross_entropy(logits, labels, reduction="none")).mean()


def soft(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -(targets * logits.log_softmax(1)).sum(1).mean()


def smoothed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits, labels, label_smoothing=0.1)


def huge(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return 2 * cross_entropy(logits, labels)


def one_cycle(step: int) -> float:
    """The rate of step ``step`` by torch's own schedule."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=STEPS, cycle_momentum=False)
    for _ in range(step):
        optimizer.step()
        schedule.step()
    return float(optimizer.param_groups[0]["lr"])


CONSTANT = {"schedule__name": "constant"}
ADAMW = {"optim__name": "adamw", "optim__lr": 1e-3, "optim__weight_decay": 0.05, "optim__eps": 1e-3, **CONSTANT}
COSINE = warm_cosine(0.05, 3, STEPS, 0.01)
PLAIN = {"optimizer": sgd(momentum=0.9), "lr": lambda _: 0.05, "loss": cross_entropy}
PLAIN_ADAMW = {"optimizer": adamw(weight_decay=0.05, eps=1e-3), "lr": lambda _: 1e-3, "loss": cross_entropy}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sgd": (CONSTANT, PLAIN),
    "sgd, nesterov, weight decay, warm-up, cosine": (
        {
            "optim__nesterov": True,
            "optim__weight_decay": 1e-2,
            "schedule__warmup_epochs": 0.5,
            "schedule__min_lr": 0.01,
        },
        PLAIN | {"optimizer": sgd(momentum=0.9, nesterov=True, weight_decay=1e-2), "lr": COSINE},
    ),
    "one cycle": ({"schedule__name": "onecycle"}, PLAIN | {"lr": one_cycle}),
    "adamw, clip, EMA, smoothing": (
        ADAMW | {"train__clip_grad": 0.5, "train__ema": 0.8, "loss__label_smoothing": 0.1},
        PLAIN_ADAMW | {"clip": 0.5, "ema": 0.8, "loss": smoothed},
    ),
    "accumulation": (CONSTANT | {"train__micro_batch": 2}, PLAIN | {"micro_batch": 2}),
    "class weights": (CONSTANT | {"loss__class_weights": {"b": 4.0, "c": 0.5}}, PLAIN | {"loss": weighted}),
    "fp16 that overflows": (
        CONSTANT
        | {"train__precision": "amp_fp16", "loss__class_weights": dict.fromkeys("abc", 2.0), "optim__lr": 1e-3},
        PLAIN | {"fp16": True, "loss": huge, "lr": lambda _: 1e-3},
    ),
    "Mixup, CutMix": (
        ADAMW | {"augment__mixup": 0.8, "augment__cutmix": 1.0, "loss__label_smoothing": 0.1},
        PLAIN_ADAMW | {"loss": soft, "mix": lambda: Mixup(0.8, 1.0, label_smoothing=0.1, num_classes=3)},
    ),
    "erasing": (
        CONSTANT | {"augment__erasing": 0.7},
        PLAIN | {"erase": lambda: RandomErasing(0.7, mode="const", device="cpu")},
    ),
    "unfreezing": (
        ADAMW | {"model__freeze": ["patch_embed", "blocks"], "model__unfreeze_epoch": 1},
        PLAIN_ADAMW | {"frozen": ("patch_embed", "blocks"), "unfreeze_step": 6},
    ),
    "layer decay": (
        ADAMW | {"optim__layer_decay": 0.7, "optim__decay_norm_and_bias": False},
        PLAIN_ADAMW | {"optimizer": by_layer},
    ),
}


def compared(case: str, ranks: int, tree: dict[str, Any], photos: Path, start: Path) -> None:
    keys, plain = CASES[case]
    micro = plain.get("micro_batch", 8 // ranks)
    same_images = {"data__root": str(photos), "data__mean": [0.5] * 3, "data__std": [0.5] * 3, "augment__hflip": 0.0}
    same_steps = {
        "model__weights": str(start),
        "model__options": {"depth": 2},
        "train__global_batch": 8,
        "log__every_steps": 1,
    }
    run = trained(tree, ranks, **same_images, **same_steps, **keys)
    model = timm.create_model("test_vit", num_classes=3, img_size=32, depth=2)
    model.load_state_dict(load_file(start))
    made = {key: value() if key in ("mix", "erase") else value for key, value in plain.items()}
    recipe = Recipe(copy.deepcopy(model), **(made | {"micro_batch": micro, "ranks": ranks, "steps": STEPS}))
    final, average = train(recipe, *read_images(photos))

    ours = rows(run, "train")
    assert [row["step"] for row in ours] == list(range(1, STEPS + 1))
    for column in ("loss", "lr", "grad_norm"):
        wanted = np.array([row[column] for row in recipe.rows])
        found = np.array([row[column] if row[column] is not None else np.nan for row in ours])
        good = np.isfinite([row["grad_norm"] for row in recipe.rows]) if column != "lr" else np.full(STEPS, True)
        np.testing.assert_allclose(found[good], wanted[good], rtol=2e-3 if recipe.fp16 else 2e-4, err_msg=column)
        assert np.isnan(found[~good]).all()
        assert 3 <= good.sum() < STEPS if recipe.fp16 and column != "lr" else good.all()
    state = load(sorted((run / "checkpoints").glob("step_*"))[-1])
    close = 1e-4 if recipe.fp16 else 2e-5
    same(state["model"], final, close)
    if average is not None:
        same(state["ema"], average, close)
    assert_moved(model, final)


def same(found: dict[str, torch.Tensor], wanted: nn.Module, close: float) -> None:
    for name, tensor in wanted.state_dict().items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-3, atol=close, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_moved(before: nn.Module, after: nn.Module) -> None:
    """The tolerances above would tell weights that were left as they were: each tensor moves by more."""
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert (old - new).abs().max() > 2e-4, name


@pytest.mark.parametrize(
    "case",
    [case if number % 3 == 0 else pytest.param(case, marks=pytest.mark.slow) for number, case in enumerate(CASES)],
)
def test_one_rank(case: str, tree: dict[str, Any], photos: Path, start: Path) -> None:
    compared(case, 1, tree, photos, start)


@pytest.mark.parametrize(
    ("case", "ranks"),
    [(case, 4 if number % 2 else 2) for number, case in enumerate(CASES)],
)
def test_several_ranks(case: str, ranks: int, tree: dict[str, Any], photos: Path, start: Path) -> None:
    compared(case, ranks, tree, photos, start)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "ranks"),
    [(case, 2 if number % 2 else 4) for number, case in enumerate(CASES)],
)
def test_the_other_numbers_of_ranks(case: str, ranks: int, tree: dict[str, Any], photos: Path, start: Path) -> None:
    compared(case, ranks, tree, photos, start)
