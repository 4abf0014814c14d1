"""Measure the cost of our loop per step, compared with a bare PyTorch loop that computes the same.

    python -m benchmarks.loop

Ours is the real ``fit`` with its recorder, stop request and checkpoints. On all sides the batches come from memory, as uint8
images that each side normalises. The first part trains a model that does nothing, so that only the cost of the loop is
left; the second trains a small ViT with AdamW, clipping and EMA. The bare loop never reads its loss and gradient norm; the
bare loop "that logs" keeps both at every step, without waiting, and reads them as often as we do.
"""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from timm.optim import param_groups_weight_decay
from timm.utils import AverageMeter, ModelEmaV3, dispatch_clip_grad
from torch import Tensor, nn

from benchmarks.images import small_folder
from benchmarks.measure import Row, interleaved, medians, pinned, ratio_of, run_part
from dist_train.config import parse_config
from dist_train.data.dataset import Batch
from dist_train.distributed.group import Dist
from dist_train.distributed.stop import StopRequest
from dist_train.loggers.open import open_loggers
from dist_train.model.freeze import train_mode
from dist_train.system.signals import STOP_SIGNALS
from dist_train.training.loop import fit
from dist_train.training.recorder import Recorder
from dist_train.training.setup import build_setup

LOG_EVERY = 50

Clock = Callable[[], float]
"""CPU time, unless a side waits for something: other programs on the machine make wall time longer."""


class Nothing(nn.Module):
    """A model with one parameter."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(1, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images[:, 0, 0, :1])  # type: ignore[no-any-return]


class Enough(Exception):
    """Raised to end a run after the measured steps."""


class Timed:
    """Yield the same batch ``steps`` times; keep the time from the first batch to the end of the last step."""

    def __init__(self, batch: Batch, steps: int, clock: Callable[[], float]) -> None:
        self._now = clock
        self._batch, self._left = batch, steps
        self._steps, self.seconds_a_step = steps, 0.0
        self._began = 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._began:
            self._began = self._now()
        if self._left == 0:
            self.seconds_a_step = (self._now() - self._began) / self._steps
            raise Enough
        self._left -= 1
        return self._batch


def tree(folder: Path, model: dict[str, Any], size: int, batch: int, hard: bool) -> dict[str, Any]:
    return {
        "run": {"name": "loop", "output_dir": str(folder / "runs")},
        "model": {"pretrained": False, **model},
        "data": {"root": str(small_folder(folder / "images")), "image_size": size, "workers": 0},
        "optim": {"name": "adamw" if hard else "sgd", "lr": 1e-4, "weight_decay": 0.05},
        "train": {
            "epochs": 10**8,
            "global_batch": batch,
            **({"ema": 0.999, "clip_grad": 1.0} if hard else {}),
        },
        "eval": {"every_steps": 10**8},
        "checkpoint": {"every_steps": 10**8},
        "log": {"every_steps": LOG_EVERY, "tensorboard": False, "wandb": {"mode": "disabled"}},
    }


class Ours:
    """Our trainer, built as ``main`` builds it."""

    def __init__(self, config: dict[str, Any], group: Dist, clock: Clock = time.process_time) -> None:
        self._clock = clock
        self.setup = build_setup(parse_config(config), group)
        self.stop = StopRequest(group).__enter__()
        self.recorder = Recorder(
            self.setup, 1, ["here"] * group.world_size, lambda facts: open_loggers(self.setup.cfg, facts)
        )
        self.batch: Batch = next(self.setup.stepper.batches)
        train_mode(self.setup.network.module)

    def seconds(self, steps: int) -> float:
        timed = Timed(self.batch, steps, self._clock)
        self.setup.stepper.batches = timed
        try:
            fit(self.setup, self.recorder, self.stop)
        except Enough:
            return timed.seconds_a_step
        raise AssertionError("the run ended too early")

    def close(self) -> None:
        self.stop.__exit__()
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)


def bare_steps(
    model: nn.Module,
    batch: Batch,
    mean: Tensor,
    scale: Tensor,
    clip: bool,
    ema: nn.Module | None,
    optimizer: Any,
    clock: Clock = time.process_time,
    logs: bool = False,
) -> Callable[[int], float]:
    """The shortest fair loop: forward, backward, clip, step, EMA by two foreach calls.

    Args:
        logs: keep the loss and the gradient norm of every step, and read them every ``LOG_EVERY`` steps.
    """
    theirs = [] if ema is None else [*ema.parameters(), *(b for b in ema.buffers() if b.is_floating_point())]
    mine = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]

    kept: list[Tensor] = []

    def seconds(steps: int) -> float:
        timed = Timed(batch, steps, clock)
        try:
            for images, labels, _ in timed:
                images = images.permute(0, 3, 1, 2).float().sub_(mean).mul_(scale).contiguous()
                loss = F.cross_entropy(model(images), labels)
                loss.backward()
                if clip:
                    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
                elif logs:  # a third of the time of ``clip_grad_norm_``
                    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm([p.grad for p in mine])))
                optimizer.step()
                optimizer.zero_grad()
                if ema is not None:
                    with torch.no_grad():
                        torch._foreach_lerp_(theirs, mine, weight=0.001)
                if logs:
                    kept.extend((loss.detach(), norm))
                if len(kept) == 2 * LOG_EVERY:
                    torch.stack(kept).tolist()
                    kept.clear()
        except Enough:
            return timed.seconds_a_step
        raise AssertionError

    return seconds


def timm_steps(model: nn.Module, batch: Batch, mean: Tensor, scale: Tensor, hard: bool, optimizer: Any, clock: Clock = time.process_time) -> Callable[[int], float]:  # fmt: skip
    """Our version of the step in timm's training script: its EMA, clipping and meter; it reads the loss at every step."""
    ema = ModelEmaV3(model, decay=0.999) if hard else None
    count = [0]

    def seconds(steps: int) -> float:
        timed, losses = Timed(batch, steps, clock), AverageMeter()
        try:
            for images, labels, _ in timed:
                images = images.permute(0, 3, 1, 2).float().sub_(mean).mul_(scale).contiguous()
                with torch.autocast("cpu", enabled=False):
                    loss = F.cross_entropy(model(images), labels)
                loss.backward()
                if hard:
                    dispatch_clip_grad(model.parameters(), 1.0, mode="norm")
                optimizer.step()
                count[0] += 1
                if ema is not None:
                    ema.update(model, step=count[0])
                losses.update(loss.item(), len(images))
                optimizer.zero_grad()
        except Enough:
            return timed.seconds_a_step
        raise AssertionError

    return seconds


def sides(folder: Path, model: dict[str, Any], size: int, batch: int, hard: bool, steps: int) -> dict[str, Callable[[], float]]:  # fmt: skip
    ours = Ours(tree(folder, model, size, batch, hard), Dist.alone())
    module, normalise = ours.setup.network.module, ours.setup.data.normalise
    mean, scale = normalise._mean, normalise._scale

    def copy() -> tuple[nn.Module, Any]:
        other = deepcopy(module)
        groups = param_groups_weight_decay(
            other, 0.05
        )  # biases without weight decay, as in our default and timm's script
        if hard:
            return other, torch.optim.AdamW(groups, lr=1e-4, fused=True)
        return other, torch.optim.SGD(groups, lr=1e-4, momentum=0.9, fused=True)

    def bare(logs: bool) -> Callable[[int], float]:
        model, optimizer = copy()
        shadow = deepcopy(model).eval().requires_grad_(False) if hard else None
        return bare_steps(model, ours.batch, mean, scale, hard, shadow, optimizer, logs=logs)

    timm_model, timm_optimizer = copy()
    all_sides = {
        "ours": ours.seconds,
        "a bare loop": bare(False),
        "a bare loop that logs": bare(True),
        "timm's step": timm_steps(timm_model, ours.batch, mean, scale, hard, timm_optimizer),
    }
    return {name: partial(seconds, steps) for name, seconds in all_sides.items()}


def measure(quick: bool) -> list[Row]:
    pinned()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        nothing = {"name": "benchmarks.loop:Nothing"}
        for label, hard in (("", False), (", AdamW, clipping and EMA", True)):
            both = sides(Path(folder) / f"n{hard}", nothing, 8, 2, hard, 100 if quick else 250)
            figures = interleaved(both, 3 if quick else 61)
            middle = medians(figures)
            for peer, target in (("a bare loop", 50.0), ("a bare loop that logs", None), ("timm's step", None)):
                over = median(a - b for a, b in zip(figures["ours"], figures[peer], strict=True)) * 1e6
                rows.append(
                    Row(f"fixed cost of a step over {peer}{label}", "us", over, middle[peer] * 1e6, f"{peer} itself", None,
                        f"<= {target:g} us" if target else "", over <= target if target else None)
                )  # fmt: skip
        model = {"name": "vit_tiny_patch16_224"}
        both = sides(Path(folder) / "vit", model, 96, 8, True, 3 if quick else 8)
        figures = interleaved(both, 3 if quick else 15)
        middle = medians(figures)
        for peer, target in (("a bare loop", 1.02), ("timm's step", None)):
            ratio = ratio_of(figures, "ours", peer)
            rows.append(
                Row(f"step of a small ViT, AdamW, clipping and EMA, over {peer}", "ms", middle["ours"] * 1e3, middle[peer] * 1e3,
                    peer, ratio, f"<= {target:g}x" if target else "", ratio <= target if target else None)
            )  # fmt: skip
    return rows


if __name__ == "__main__":
    run_part(__doc__, measure)
