"""The sides that benchmarks/gpu.py measures: our trainer, timm's step and the naive script, on one device."""

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import create_model
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, ModelEmaV3, NativeScaler
from torch import Tensor, nn

from benchmarks.loop import Enough, Ours, Timed, tree
from dist_train.data.dataset import Batch
from dist_train.distributed.group import Dist

DTYPES = {"amp_bf16": torch.bfloat16, "amp_fp16": torch.float16, "fp32": None}


@dataclass(frozen=True)
class Job:
    """The model and its input; ``quick`` is a tiny one, to check that everything works."""

    device: torch.device
    model: str = "vit_base_patch16_384"
    size: int = 384
    batch: int = 128
    classes: int = 200
    steps: int = 10
    rounds: int = 3
    workers: int = 8

    @property
    def group(self) -> Dist:
        return Dist.alone(self.device)

    def clock(self) -> float:
        """Return the time in seconds, after the device has finished all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def our_tree(job: Job, folder: Path, precision: str, compiled: bool | dict[str, str], **augment: Any) -> dict[str, Any]:
    config = tree(folder, {"name": job.model, "compile": compiled}, job.size, job.batch, True)
    config["train"] |= {"precision": precision, "tf32": True}
    config["data"]["workers"] = job.workers if augment else 0
    config["augment"] = augment
    config["run"]["name"] = f"gpu-{time.monotonic_ns()}"
    return config


RECIPE = {"randaugment": {}, "erasing": 0.25, "mixup": 0.8, "cutmix": 1.0}


class FirstSteps:
    """Yield the first batches of the real pipeline. Timing begins after ``skip`` of them."""

    def __init__(self, batches: Iterator[Batch], job: Job, skip: int, stepper: Any) -> None:
        self._batches, self._job, self._stepper, self._left = batches, job, stepper, job.steps * job.rounds + skip
        self._skip = skip
        self.images_per_s = self.waited = 0.0

    def __next__(self) -> Batch:
        if self._skip == 0:
            asked, self._first = time.perf_counter(), self._left
            self._began = self._job.clock()
            # The stepper counts the time until the device is idle as waiting.
            self._waited = self._stepper.waited_s + time.perf_counter() - asked
        self._skip -= 1
        if self._left == 0:
            seconds = self._job.clock() - self._began
            self.images_per_s = self._first * self._job.batch / seconds
            self.waited = (self._stepper.waited_s - self._waited) / seconds
            raise Enough
        self._left -= 1
        return next(self._batches)


def synthetic(job: Job) -> Batch:
    images = torch.randint(0, 256, (job.batch, job.size, job.size, 3), dtype=torch.uint8, device=job.device)
    return images, torch.randint(0, job.classes, (job.batch,), device=job.device), torch.arange(job.batch)


def ours(job: Job, folder: Path, precision: str, compiled: bool | dict[str, str]) -> Callable[[int], float]:
    """Return the seconds per step of the real ``fit``, on one batch that is on the device."""
    side = Ours(our_tree(job, folder, precision, compiled), job.group, job.clock)
    side.batch = synthetic(job)
    return side.seconds


def graphed(job: Job, folder: Path, precision: str, compiled: bool) -> Callable[[int], float]:
    """Ours, whose passes torch records as CUDA graphs."""
    return ours(job, folder, precision, {"mode": "reduce-overhead"})


def timms(job: Job, folder: Path, precision: str, compiled: bool) -> Callable[[int], float]:
    """Our version of timm's training step with its fastest options; it reads the loss at every step."""
    model: nn.Module = create_model(job.model, num_classes=job.classes, img_size=job.size).to(job.device).train()
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-4, weight_decay=0.05, fused=True)  # an --opt-kwargs
    ema = ModelEmaV3(model, decay=0.999)
    trained: Any = torch.compile(model) if compiled else model
    dtype = DTYPES[precision]
    scaler = NativeScaler(device=job.device.type) if dtype == torch.float16 else None
    count = [0]

    def step(images: Tensor, labels: Tensor) -> float:
        with torch.autocast(job.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            loss = F.cross_entropy(trained(images), labels)
        if scaler is not None:
            scaler(loss, optimizer, clip_grad=1.0, parameters=model.parameters())
        else:
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        optimizer.zero_grad()
        count[0] += 1
        ema.update(model, step=count[0])
        return loss.item()

    return _timed(job, step)


def naive(job: Job, folder: Path, precision: str, compiled: bool) -> Callable[[int], float]:
    """The naive script: autocast, a loss scaler, Adam without options, reads the loss at every step."""
    model: nn.Module = create_model(job.model, num_classes=job.classes, img_size=job.size).to(job.device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler(job.device.type)
    criterion = nn.CrossEntropyLoss()

    def step(images: Tensor, labels: Tensor) -> float:
        optimizer.zero_grad()
        with torch.autocast(job.device.type, dtype=torch.float16):
            loss = criterion(model(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.item()

    return _timed(job, step)


def _timed(job: Job, step: Callable[[Tensor, Tensor], float]) -> Callable[[int], float]:
    mean = torch.full((1, 3, 1, 1), 127.5, device=job.device)
    images, *others = synthetic(job)
    batch, losses = (images.permute(0, 3, 1, 2).contiguous(), *others), AverageMeter()  # as their loaders give it

    def seconds(steps: int) -> float:
        timed = Timed(batch, steps, job.clock)
        try:
            while True:
                images, labels, _ = next(timed)
                losses.update(step(images.float().sub_(mean).div_(mean), labels))
        except Enough:
            return timed.seconds_a_step

    return seconds


def syncs_a_step(job: Job, seconds: Callable[[int], float]) -> float | None:
    """Return how often the host waits for the device per step, as torch's debug mode counts; None on the CPU."""
    if job.device.type != "cuda":
        return None
    steps = 5
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            seconds(steps)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    # Not the warning that this mode is new, which comes once.
    return sum("called a synchronizing" in str(warning.message) for warning in caught) / steps


def about(device: torch.device) -> dict[str, Any]:
    """Return the device and its libraries, in addition to the packages that every result names."""
    if device.type != "cuda":
        return {"device": "CPU"}
    found = torch.cuda.get_device_properties(device)
    return {"device": found.name, "device_gib": round(found.total_memory / 2**30, 1), "multiprocessors": found.multi_processor_count,
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # fmt: skip


def free() -> None:
    """Free the memory of the last side."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def matmul_flops(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Return the FLOP/s of a large matrix product of random numbers: the 100 % of MFU.

    Takes the best of several rounds: in the first ones the device still has its idle clock.
    """
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    job = Job(device)
    found = []
    for _ in range(20):
        began = job.clock()
        for _ in range(10):
            a @ b
        found.append((job.clock() - began) / 10)
    return 2 * side**3 / min(found)


def flops_per_image(job: Job) -> float:
    """Return the FLOPs of a training step: three times the forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = create_model(job.model, num_classes=job.classes, img_size=job.size)
        images = torch.zeros(1, 3, job.size, job.size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.train()(images)
    return 3.0 * counter.get_total_flops()
