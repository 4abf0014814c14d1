"""Compare initial weights of a new head (``model.head.init``), with everything else equal.

    python -m benchmarks.head_init --tiny-imagenet FOLDER --out benchmarks/results/head_init.json
    python -m benchmarks.head_init_table benchmarks/results/head_init.json > benchmarks/results/head_init.md

EfficientNet-Lite 0, 1 and 2 with their ImageNet weights: the head alone on frozen features, then all layers. Five more
families with random weights: their first loss, and the loss after 300 steps. Figures in the output file are not measured
again, so you can stop the command and start it again.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.demo import DEMO, lite_weights, prepare
from benchmarks.measure import Record
from benchmarks.tables import measured

SIDE = 64
BATCH = 50
SEEDS = (0, 1, 2)
LITES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
FAMILIES = ("resnet18", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050", "regnety_002")
SCRATCH_STEPS, SCRATCH_SIDE = 300, 32


def own(layer: nn.Linear) -> None:
    """Keep the weights of the constructor: timm's models initialise their own layer, an mlp has torch's initialisation."""


def zeros(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def normal(std: float) -> Callable[[nn.Linear], None]:
    def init(layer: nn.Linear) -> None:
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)

    return init


CANDIDATES: dict[str, Callable[[nn.Linear], None]] = {
    "timm's own": own,
    "torch's nn.Linear": nn.Linear.reset_parameters,
    "normal 0.02": normal(0.02),
    "normal 0.01": normal(0.01),
    "zeros": zeros,
}
FINALISTS = ("timm's own", "zeros")


class Task(NamedTuple):
    """Training and validation set: images uint8 [N, 3, 64, 64] and targets int64 [N] or float32 [N, 2]."""

    outputs: int
    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]

    @property
    def regression(self) -> bool:
        return self.train[1].ndim == 2

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets) if self.regression else F.cross_entropy(outputs, targets)

    def score(self, outputs: Tensor) -> float:
        """Return top-1 in percent, or R2, over all validation images."""
        truth = self.val[1]
        if not self.regression:
            return (outputs.argmax(1) == truth).float().mean().item() * 100
        return 1 - ((outputs - truth) ** 2).sum().item() / ((truth - truth.mean(0)) ** 2).sum().item()


def classes(folder: Path, per_class: int | None = None) -> tuple[Tensor, Tensor]:
    places = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [(p, label) for label, place in enumerate(places) for p in sorted(place.rglob("*.*"))[:per_class]]
    return pixels([p for p, _ in files]), torch.tensor([label for _, label in files])


def numbers(folder: Path) -> tuple[Tensor, Tensor]:
    files = sorted(folder.rglob("*.png"))
    return pixels(files), torch.tensor([[float(value) for value in measured(path)] for path in files])


def pixels(files: list[Path]) -> Tensor:
    arrays = [
        np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for path in files
    ]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def tasks(tiny: Path | None) -> dict[str, Task]:
    prepare()
    fashion = DEMO / "fashion_mnist"
    found = {
        "Fashion-MNIST, top-1": Task(10, classes(fashion / "train"), classes(fashion / "val")),
        "regression, R2": Task(2, numbers(fashion / "train"), numbers(fashion / "val")),
    }
    if tiny:
        images, labels = classes(tiny / "train", per_class=30)
        held_back = torch.arange(len(images)) % 30 >= 20
        sides = ((images[~held_back], labels[~held_back]), (images[held_back], labels[held_back]))
        found["Tiny ImageNet, top-1"] = Task(200, *sides)
    return found


def build(name: str, outputs: int, seed: int, candidate: str, pretrained: bool) -> nn.Module:
    torch.manual_seed(seed)
    size = {"img_size": SCRATCH_SIDE} if name.startswith("vit") else {}
    module: nn.Module = timm.create_model(name, num_classes=outputs, **size)
    if pretrained:
        weights = {key: value for key, value in lite_weights(name).items() if not key.startswith("classifier")}
        module.load_state_dict(weights, strict=False)
    CANDIDATES[candidate](module.get_classifier())  # type: ignore[operator]
    return module.to(memory_format=torch.channels_last)


def prepared(images: Tensor) -> Tensor:
    return ((images.float() / 255 - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def in_parts(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([function(prepared(part)) for part in images.split(BATCH)])


def batches(count: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield shuffled positions, one epoch after another, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator)[: count // size * size].split(size)


def fit(module: nn.Module, inputs: Tensor, task: Task, epochs: int, lr: float, seed: int) -> list[float]:
    """Train with a cosine schedule, by SGD with momentum 0.9 (regression: AdamW). Return the loss of each step."""
    steps = epochs * (len(inputs) // BATCH)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(module.parameters(), lr, momentum=0.9)
    if task.regression:
        optimizer = torch.optim.AdamW(module.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _, positions in zip(range(steps), batches(len(inputs), BATCH, seed), strict=False):
        given = inputs[positions]
        loss = task.loss(module(prepared(given) if given.ndim == 4 else given), task.train[1][positions])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def head_only(name: str, task: Task, head: str, keep: Callable[[str, Callable[[], list[float]]], None]) -> None:
    """Train the head for 3 epochs on features that are computed once, for each candidate, learning rate and seed."""
    module = build(name, task.outputs, 0, "timm's own", pretrained=True).eval()
    features = [in_parts(lambda x: module.forward_head(module.forward_features(x), pre_logits=True), images)  # type: ignore[operator]
                for images in (task.train[0], task.val[0])]  # fmt: skip
    std = module.get_classifier().weight.std().item()  # type: ignore[operator]

    def one(candidate: str, lr: float, seed: int) -> float:
        torch.manual_seed(seed)
        width = features[0].shape[1]
        last = nn.Linear(128 if head == "mlp" else width, task.outputs)
        if candidate == "timm's own" and head == "linear":
            nn.init.uniform_(last.weight, -std * math.sqrt(3), std * math.sqrt(3))
            nn.init.zeros_(last.bias)
        CANDIDATES[candidate](last)
        layers = nn.Sequential(nn.Linear(width, 128), nn.GELU(), last) if head == "mlp" else last
        fit(layers, features[0], task, 3, lr, seed)
        with torch.no_grad():
            return task.score(layers(features[1]))

    for lr in (0.001, 0.01) if task.regression else (0.01, 0.1):
        for candidate in CANDIDATES:
            if head == "mlp" and candidate == "timm's own":
                continue
            keep(f"{lr:g} | {candidate}", lambda c=candidate, lr=lr: [one(c, lr, seed) for seed in SEEDS])  # type: ignore[misc]


def all_layers(name: str, task: Task, candidate: str, epochs: int = 2) -> list[float]:
    """Return the first loss and the final score."""
    module = build(name, task.outputs, 0, candidate, pretrained=True).train()
    losses = fit(module, task.train[0], task, epochs, 0.001 if task.regression else 0.01, 0)
    module.eval()
    return [losses[0], task.score(in_parts(module, task.val[0]))]


def from_scratch(name: str, task: Task, candidate: str) -> list[float]:
    """Return the first loss and the mean loss of the last 50 of 300 steps, from random weights with AdamW."""
    module = build(name, task.outputs, 0, candidate, pretrained=False).train()
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    images = F.avg_pool2d(task.train[0].float(), SIDE // SCRATCH_SIDE)
    losses = []
    for _, positions in zip(range(SCRATCH_STEPS), batches(len(images), 32, 0), strict=False):
        loss = task.loss(module(prepared(images[positions])), task.train[1][positions])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [losses[0], statistics.mean(losses[-50:])]


def measure(tiny: Path | None, out: Path) -> None:
    record = Record(out)
    figures, keep = record.figures, record.measure

    every = tasks(tiny)
    for title, task in every.items():
        heads = ("linear", "mlp") if task.regression else ("linear",)
        for name in LITES:
            for head in heads:
                prefix = f"head only | {title} | {head} | {name}"
                if sum(key.startswith(prefix) for key in figures) < 2 * (len(CANDIDATES) - (head == "mlp")):
                    head_only(name, task, head, lambda key, work, p=prefix: keep(f"{p} | {key}", work))  # type: ignore[misc]
    fashion, regression = every["Fashion-MNIST, top-1"], every["regression, R2"]
    for name in FAMILIES:
        for candidate in FINALISTS:
            keep(f"scratch | {name} | {candidate}", lambda n=name, c=candidate: from_scratch(n, fashion, c))  # type: ignore[misc]
    for title, task in (("Fashion-MNIST, top-1", fashion), ("regression, R2", regression)):
        for name in LITES if task is fashion else LITES[:1]:
            for candidate in FINALISTS:
                keep(
                    f"all layers | {title} | {name} | {candidate}",
                    lambda n=name, t=task, c=candidate: all_layers(n, t, c),
                )  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--tiny-imagenet", type=Path, metavar="FOLDER", help="its own layout, with train/<class>/images"
    )
    parser.add_argument("--out", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    measure(args.tiny_imagenet, args.out)


if __name__ == "__main__":
    main()
