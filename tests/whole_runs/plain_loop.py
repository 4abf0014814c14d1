"""A training loop that shares no code with dist_train: torch, timm and the formulas of the documentation only.

It computes every micro-batch of every rank in one process and averages their gradients. ``test_plain_loop.py`` compares
the trainer with it.
"""

import copy
import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn

SEED, STEPS_PER_EPOCH = 0, 6


def seed_of(*keys: int | str) -> int:
    """The seed that belongs to keys such as ("micro", step, micro-batch, rank)."""
    digest = hashlib.blake2b(repr((SEED, *keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def derived(seed: int, key: str) -> int:
    digest = hashlib.blake2b(repr((seed, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def read_images(folder: Path) -> tuple[Tensor, Tensor]:
    """All training images of a class folder, normalised with mean and std 0.5, float32 [N, 3, S, S], and labels [N]."""
    files = sorted((folder / "train").glob("*/*.png"))
    classes = sorted({file.parent.name for file in files})
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    return images, torch.tensor([classes.index(file.parent.name) for file in files])


@dataclass
class Recipe:
    """What one run computes. ``model`` holds the initial weights."""

    model: nn.Module
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    lr: Callable[[int], float]
    loss: Callable[[Tensor, Tensor], Tensor]
    global_batch: int = 8
    micro_batch: int = 8
    ranks: int = 1
    steps: int = 12
    clip: float = math.inf
    ema: float | None = None
    fp16: bool = False
    mix: Mixup | None = None
    erase: RandomErasing | None = None
    frozen: tuple[str, ...] = ()
    unfreeze_step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)


def train(recipe: Recipe, images: Tensor, labels: Tensor) -> tuple[nn.Module, nn.Module | None]:
    """Return the trained model and its moving average; ``recipe.rows`` gets loss, rate and gradient norm of each step."""
    model, average = recipe.model.train(), None
    optimizer = recipe.optimizer(model)
    scaler = torch.amp.GradScaler("cpu", enabled=recipe.fp16)
    for step in range(recipe.steps):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(step >= recipe.unfreeze_step or not name.startswith(recipe.frozen or ("-",)))
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr(step) * group.get("lr_scale", 1.0)
        epoch, place = divmod(step, STEPS_PER_EPOCH)
        order = np.random.default_rng(seed_of("order", epoch)).permutation(len(labels))
        batch = order[place * recipe.global_batch : (place + 1) * recipe.global_batch]
        parts = np.split(batch, recipe.global_batch // recipe.micro_batch)
        total = 0.0
        for number, indices in enumerate(parts):
            micro, rank = divmod(number, recipe.ranks)
            inputs, targets = augmented(recipe, images[indices], labels[indices], seed_of("micro", step, micro, rank))
            with torch.autocast("cpu", torch.float16, enabled=recipe.fp16):
                outputs = model(inputs)
            loss = recipe.loss(outputs.float(), targets)
            # Each rank computes the gradients of its own mean: in fp16 they overflow before they are averaged.
            scaler.scale(loss / (len(parts) / recipe.ranks)).backward()
            total += loss.item() / len(parts)
        trained = [p for p in model.parameters() if p.grad is not None]
        for parameter in trained:
            parameter.grad.div_(recipe.ranks)
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(trained, recipe.clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if recipe.ema is not None:
            average = averaged(average, model, recipe.ema)
        recipe.rows.append({"loss": total, "lr": recipe.lr(step), "grad_norm": norm.item()})
    return model, average


def augmented(recipe: Recipe, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    images = images.clone()
    if recipe.erase is not None:
        random.seed(derived(seed, "erase"))
        images = recipe.erase(images)
    if recipe.mix is not None:
        np.random.seed(derived(seed, "mix") & 0xFFFFFFFF)
        images, labels = recipe.mix(images, labels)
    return images, labels


def averaged(average: nn.Module | None, model: nn.Module, decay: float) -> nn.Module:
    if average is None:
        return copy.deepcopy(model)
    with torch.no_grad():
        for mine, theirs in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            mine.copy_(decay * mine + (1 - decay) * theirs if mine.is_floating_point() else theirs)
    return average


def warm_cosine(lr: float, warmup: int, steps: int, lowest: float = 0.0) -> Callable[[int], float]:
    def rate(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        done = (step - warmup) / (steps - warmup)
        return lowest + (lr - lowest) * (1 + math.cos(math.pi * done)) / 2

    return rate


def sgd(**options: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: torch.optim.SGD(model.parameters(), lr=1.0, **options)


def adamw(**options: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: torch.optim.AdamW(model.parameters(), lr=1.0, **options)
