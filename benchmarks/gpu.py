"""ViT-B/16 at 384 on one GPU: ours against timm's step and the naive script, synthetic and from JPEG files.

    python -m benchmarks.gpu                          # a few minutes; --json FILE writes the figures
    python -m benchmarks.gpu --device cpu --quick     # a tiny model: see that it works

Every side trains alone, its memory freed before the next. MFU is 3 x the forward pass's FLOPs over what a large matrix product of
the same format reaches on this device in this run. Sides that do not fit in ``--seconds`` are left out and named.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_sides import (
    RECIPE,
    FirstSteps,
    Job,
    flops_per_image,
    free,
    matmul_flops,
    naive,
    our_tree,
    ours,
    syncs_a_step,
    synthetic,
    timms,
)  # fmt: skip
from benchmarks.images import small_folder
from benchmarks.loop import Enough, Ours
from benchmarks.measure import Row, medians, print_table, write_json
from dist_train.config import AugmentConfig
from dist_train.train import fit

# The most important first.
SIDES: tuple[tuple[str, Callable[..., Any], str, bool], ...] = (
    ("ours", ours, "amp_bf16", True),
    ("timm", timms, "amp_bf16", True),
    ("ours", ours, "amp_bf16", False),
    ("timm", timms, "amp_bf16", False),
    ("naive", naive, "amp_fp16", False),
    ("ours", ours, "amp_fp16", True),
    ("timm", timms, "amp_fp16", True),
    ("ours", ours, "amp_fp16", False),
    ("ours", ours, "fp32", False),
    ("timm", timms, "fp32", False),
    ("ours", ours, "fp32", True),
)
PUBLISHED_EPOCH_S = 30 * 60
EPOCH = 100_000


def measure_side(job: Job, make: Callable[..., Any], folder: Path, precision: str, compiled: bool) -> dict[str, Any]:
    """Images/s, peak memory and host syncs of one side; ``failed`` says why not."""
    free()
    try:
        began = time.perf_counter()
        seconds = make(job, folder, precision, compiled)
        seconds(3)
        ready_s = time.perf_counter() - began
        found = medians({"step": [seconds(job.steps) for _ in range(job.rounds)]})["step"]
        peak = torch.cuda.max_memory_allocated() / 2**30 if job.device.type == "cuda" else 0.0
        return {"images_per_s": job.batch / found, "step_ms": found * 1e3, "peak_gb": peak, "ready_s": ready_s,
                "host_syncs": syncs_a_step(job, seconds)}  # fmt: skip
    except torch.OutOfMemoryError as error:
        return {"failed": str(error).splitlines()[0]}


def measure_real(job: Job, folder: Path, precision: str, compiled: bool, **augment: Any) -> dict[str, Any]:
    """Images/s and the share of waiting of the whole trainer, loader processes and augmentation included."""
    free()
    side = Ours(our_tree(job, folder, precision, compiled, **augment), job.group, job.clock)
    stepper = side.setup.stepper
    batches = FirstSteps(stepper.batches, job, 5, stepper)
    stepper.batches = batches  # type: ignore[assignment]
    try:
        fit(side.setup, side.journal, side.stop)
    except Enough:
        return {"images_per_s": batches.images_per_s, "data_wait": batches.waited}
    raise AssertionError("the run ended by itself")


def augment_ms(job: Job, folder: Path) -> float:
    """What normalising, erasing and mixing a batch on the device takes."""
    config = our_tree(job, folder, "amp_bf16", False, **RECIPE)
    config["data"]["workers"] = 0
    stepper = Ours(config, job.group, job.clock).setup.stepper
    images, labels, _ = synthetic(job)
    labels = labels % 2
    stepper.augment(images, labels, 0)
    began = job.clock()
    for key in range(10):
        stepper.augment(images, labels, key)
    return (job.clock() - began) * 100


def measure(job: Job, quick: bool, seconds: float) -> tuple[list[Row], dict[str, Any]]:
    began = time.monotonic()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    side = 256 if quick else 8192
    formats = {"amp_bf16": torch.bfloat16, "amp_fp16": torch.float16, "fp32": torch.float32}
    ceiling = {name: matmul_flops(job.device, dtype, side) for name, dtype in formats.items()}
    flops = flops_per_image(job)
    found: dict[str, Any] = {
        "ceiling_tflops": {k: v / 1e12 for k, v in ceiling.items()},
        "gflop_per_image": flops / 1e9,
    }
    sides: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_folder(folder / "images", images=max(512, 4 * job.batch), classes=job.classes)
        for who, make, precision, compiled in SIDES:
            label = f"{who}, {precision}, {'compiled' if compiled else 'eager'}"
            if time.monotonic() - began > seconds * 0.75:
                sides[label] = {"failed": "left out, for lack of time"}
                continue
            sides[label] = measure_side(job, make, folder, precision, compiled)
            if "images_per_s" in sides[label]:
                sides[label]["mfu"] = sides[label]["images_per_s"] * flops / ceiling[precision]
            print(label, sides[label], flush=True)
        found |= {"sides": sides, "augment_ms": augment_ms(job, folder)}
        compiled = not quick  # as the side that it is compared with
        found["real"] = measure_real(job, folder, "amp_bf16", compiled, **RECIPE)
        if "device" in AugmentConfig.model_fields:
            found["real, augment.device"] = measure_real(job, folder, "amp_bf16", compiled, **RECIPE, device=True)
    return rows_of(found, job), found


def rows_of(found: dict[str, Any], job: Job) -> list[Row]:
    """The figures with targets first, then every side."""
    sides = {label: side for label, side in found["sides"].items() if "images_per_s" in side}
    rates = {label: side["images_per_s"] for label, side in sides.items()}
    best_of = {who: max((rate for label, rate in rates.items() if label.startswith(who)), default=None) for who in ("ours", "timm", "naive")}  # fmt: skip
    rows, compiled = [], sides.get("ours, amp_bf16, compiled", {})
    if compiled:
        mfu = compiled["mfu"]
        rows.append(Row("MFU, amp_bf16, compiled", "", mfu, None, "", None, ">= 0.6", mfu >= 0.6))
    same = compiled or sides.get("ours, amp_bf16, eager", {})
    if same:
        synthetic_rate = same["images_per_s"]
        for label in ("real", "real, augment.device"):
            if label in found:
                rate = found[label]["images_per_s"]
                ratio = rate / synthetic_rate
                what = f"{label} pipeline, {job.workers} workers, waited {found[label]['data_wait']:.1%}"
                rows.append(Row(what, "images/s", rate, synthetic_rate, "synthetic", ratio, ">= 0.97x", ratio >= 0.97))
                rows.append(Row(f"an epoch of 100k images, {label}", "s", EPOCH / rate, PUBLISHED_EPOCH_S, "published", PUBLISHED_EPOCH_S * rate / EPOCH))  # fmt: skip
    for who, target in (("timm", 1.2), ("naive", None)):
        if best_of["ours"] and best_of[who]:
            ratio = best_of["ours"] / best_of[who]
            rows.append(Row(f"best setting of ours against {who}'s", "images/s", best_of["ours"], best_of[who], who, ratio,
                            f">= {target}x" if target else "", ratio >= target if target else None))  # fmt: skip
    for label, side in sides.items():
        what = f"{label}: MFU {side['mfu']:.1%}, peak {side['peak_gb']:.1f} GiB, host syncs a step {side['host_syncs']}"
        rows.append(Row(what, "images/s", side["images_per_s"]))
    rows.append(Row("normalise, erase and mix a batch on the device", "ms", found["augment_ms"]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a tiny model, eager only")
    parser.add_argument("--seconds", type=float, default=540, help="time for all of it (540)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    job = Job(device)
    if args.quick:
        job = Job(device, "test_vit", 32, 8, 4, steps=2, rounds=1, workers=1)
        globals()["SIDES"] = tuple(side for side in SIDES if not side[3])
    rows, found = measure(job, args.quick, args.seconds)
    print_table(rows)
    if args.json:
        gpu = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
        write_json(args.json, rows, device=gpu, job={key: str(value) for key, value in vars(job).items()}, **found)


if __name__ == "__main__":
    main()
