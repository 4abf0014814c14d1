"""Measure ViT-B/16 at 384 px on one GPU: ours, timm's step and the naive script, on synthetic images and on JPEG files.

    python -m benchmarks.gpu --json FILE              # on a GPU with 80 GB; at most ten minutes
    python -m benchmarks.gpu --device cpu --quick     # a tiny model: check that it works
    timeout 170 python -m pytest -n 6 tests/test_gpu.py; python -m benchmarks.gpu --json FILE --seconds 370    # all in ten

Needs torch, torchvision, timm, numpy, pillow, pydantic, pyyaml, safetensors, simplejpeg, tqdm, opencv-python-headless, a C
compiler for torch.compile and 20 GB of main memory. Needs no network.

Each side trains alone; its memory is freed before the next one. MFU is 3 x the FLOPs of the forward pass per second, divided
by the FLOP/s of a large matrix product in the same format on this device in this run, and in one row by those of the card's data
sheet. If a side fails, the result has its
error. The most important parts come first, and FILE is written after each part, so that an interrupted run keeps its
figures. No part has run on a GPU yet, so the times are a plan: 20 s for the start and the peak FLOP/s, 90 s for a compiled
side (mostly the compiler; the whole pipelines reuse its results from the disk), 30 s for an eager side. A part begins only
if it can end within ``--seconds``.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_sides import (
    RECIPE,
    FirstSteps,
    Job,
    about,
    flops_per_image,
    free,
    graphed,
    matmul_flops,
    naive,
    our_tree,
    ours,
    syncs_a_step,
    timms,
)  # fmt: skip
from benchmarks.images import small_folder
from benchmarks.loop import Enough, Ours
from benchmarks.measure import Row, medians, print_table, write_json
from dist_train.training.loop import fit, save_now
from dist_train.training.report.flops import peak_flops

# the most important part first
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
    ("timm", timms, "amp_fp16", False),
    ("timm", timms, "fp32", True),
    ("ours, CUDA graphs", graphed, "amp_bf16", True),
)
PART_S = 90
"""Seconds planned for a compiled side."""

PUBLISHED_EPOCH_S = 30 * 60
EPOCH = 100_000


def measure_side(job: Job, make: Callable[..., Any], folder: Path, precision: str, compiled: bool) -> dict[str, Any]:
    """Return images/s, peak memory and host syncs of one side."""
    began = time.perf_counter()
    seconds = make(job, folder, precision, compiled)
    seconds(3)
    ready_s = time.perf_counter() - began
    found = medians({"step": [seconds(job.steps) for _ in range(job.rounds)]})["step"]
    peak = torch.cuda.max_memory_allocated() / 2**30 if job.device.type == "cuda" else 0.0
    return {"images_per_s": job.batch / found, "step_ms": found * 1e3, "peak_gb": peak, "ready_s": ready_s,
            "host_syncs": syncs_a_step(job, seconds)}  # fmt: skip


def measure_real(job: Job, folder: Path, precision: str, compiled: bool, **augment: Any) -> dict[str, Any]:
    """Return images/s and the share of waiting for the whole trainer, with loader processes and augmentation."""
    side = Ours(our_tree(job, folder, precision, compiled, **augment), job.group, job.clock)
    stepper, data = side.setup.stepper, side.setup.cfg.data
    # Skip the batches that the loader processes prepared while the model was compiled.
    batches = FirstSteps(stepper.batches, job, data.workers * data.prefetch + 5, stepper)
    stepper.batches = batches  # type: ignore[assignment]
    try:
        fit(side.setup, side.recorder, side.stop)
    except Enough:
        return {"images_per_s": batches.images_per_s, "data_wait": batches.waited}
    finally:
        side.close()
    raise AssertionError("the run ended too early")


def augment_ms(job: Job, folder: Path, **augment: Any) -> dict[str, Any]:
    """Measure what the device does to a batch before the forward pass."""
    config = our_tree(job, folder, "amp_bf16", False, **RECIPE, **augment)
    config["data"]["workers"] = 0
    side = Ours(config, job.group, job.clock)
    images, labels, _, *drawn = side.batch
    side.setup.stepper.augment(images, labels, 0, *drawn)
    began = job.clock()
    for key in range(10):
        side.setup.stepper.augment(images, labels, key, *drawn)
    return {"ms": (job.clock() - began) * 100}


def measure_save(job: Job, folder: Path) -> dict[str, Any]:
    """Measure how long a save holds up training: the host, and the steps after it. And how long with the copy waited for."""
    side = Ours(our_tree(job, folder, "amp_bf16", False), job.group, job.clock)
    checkpoints = side.setup.checkpoints
    checkpoints.start()
    side.seconds(3)
    step_s = side.seconds(job.steps)
    host_s, slower_s, waited_s = [], [], []
    for number in range(2 * job.rounds + 1):
        checkpoints.wait()
        began = job.clock()
        save_now(side.setup, side.recorder, side.stop, None)
        if number % 2:
            host_s.append(time.perf_counter() - began)
            slower_s.append((side.seconds(job.steps) - step_s) * job.steps)
        else:
            checkpoints.settle()
            waited_s.append(time.perf_counter() - began)
            side.seconds(1)
    side.close()
    checkpoints.close()
    overlapped = statistics.median(host_s) + max(0.0, statistics.median(slower_s))
    return {
        "gb": side.setup.state.nbytes() / 1e9,
        "overlapped_ms": overlapped * 1e3,
        "waited_ms": statistics.median(waited_s[1:]) * 1e3,
    }


def measure(job: Job, quick: bool, seconds: float, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure all figures, the most important first. After each, call ``keep`` with the figures so far."""
    began = time.monotonic()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    side = 64 if quick else 8192
    formats = {"amp_bf16": torch.bfloat16, "amp_fp16": torch.float16, "fp32": torch.float32}
    ceiling = {name: matmul_flops(job.device, dtype, side) for name, dtype in formats.items()}
    flops = flops_per_image(job)
    sides: dict[str, dict[str, Any]] = {}
    peak = peak_flops(torch.cuda.get_device_name(job.device)) if job.device.type == "cuda" else None
    found: dict[str, Any] = {
        "peak_tflops": peak and peak / 1e12,
        "ceiling_tflops": {k: v / 1e12 for k, v in ceiling.items()},
        "gflop_per_image": flops / 1e9,
        "sides": sides,
    }

    def part(into: dict[str, Any], label: str, needs_s: float, run: Callable[[], dict[str, Any]]) -> None:
        started = time.monotonic()
        into[label] = {"failed": "not enough time left"}
        if started - began + needs_s <= seconds:
            free()
            try:
                into[label] = run()
            except Exception as error:  # noqa: BLE001 - an error of one part must not stop the others
                into[label] = {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
        into[label]["took_s"] = round(time.monotonic() - started, 1)
        print(f"{time.monotonic() - began:.0f} s: {label}: {into[label]}", flush=True)
        keep(found)

    def a_side(who: str, make: Callable[..., Any], precision: str, compiled: bool) -> dict[str, Any]:
        figures = measure_side(job, make, folder, precision, compiled)
        return figures | {"mfu": figures["images_per_s"] * flops / ceiling[precision]}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_folder(folder / "images", images=max(512, 4 * job.batch), classes=job.classes)
        for number, chosen in enumerate(SIDES):
            who, _, precision, compiles = chosen
            if number == 2:  # after the two most important sides
                # The whole pipelines use the same compilation as the side that they are compared with.
                compiled = "images_per_s" in sides.get("ours, amp_bf16, compiled", {})
                pipeline = partial(measure_real, job, folder, "amp_bf16", compiled, **RECIPE)
                part(found, "real", PART_S, pipeline)
                part(found, "real, augment.device", PART_S, partial(pipeline, device=True))
            label = f"{who}, {precision}, {'compiled' if compiles else 'eager'}"
            part(sides, label, PART_S if compiles else PART_S / 3, partial(a_side, *chosen))
        part(found, "augment", PART_S / 3, partial(augment_ms, job, folder))
        part(found, "augment.device", PART_S / 3, partial(augment_ms, job, folder, device=True))
        part(found, "save", PART_S / 3, partial(measure_save, job, folder))
        free()  # end the last loader processes before their files are deleted
    return found


def rows_of(found: dict[str, Any], job: Job) -> list[Row]:
    """Return the rows of the table: figures with targets first, then every side."""
    sides = {label: side for label, side in found["sides"].items() if "images_per_s" in side}
    rates = {label: side["images_per_s"] for label, side in sides.items()}
    best_of = {who: max((rate for label, rate in rates.items() if label.startswith(who)), default=None) for who in ("ours", "timm", "naive")}  # fmt: skip
    rows, compiled = [], sides.get("ours, amp_bf16, compiled", {})
    if compiled:
        mfu = compiled["mfu"]
        rows.append(Row("MFU, amp_bf16, compiled", "of the matrix product", mfu, None, "", None, ">= 0.6", mfu >= 0.6))
        if peak := found["peak_tflops"]:
            share = compiled["images_per_s"] * found["gflop_per_image"] / 1e3 / peak
            rows.append(
                Row("MFU, amp_bf16, compiled", "of the card's peak", share, None, "", None, ">= 0.4", share >= 0.4)
            )
    same = compiled or sides.get("ours, amp_bf16, eager", {})
    if same:
        synthetic_rate = same["images_per_s"]
        for label in ("real", "real, augment.device"):
            if "images_per_s" in found.get(label, {}):
                rate = found[label]["images_per_s"]
                ratio = rate / synthetic_rate
                what = f"{label} pipeline, {job.workers} workers, waited {found[label]['data_wait']:.1%}"
                rows.append(Row(what, "images/s", rate, synthetic_rate, "synthetic", ratio, ">= 0.97x", ratio >= 0.97))
                rows.append(Row(f"an epoch of 100k images, {label}", "s", EPOCH / rate, PUBLISHED_EPOCH_S, "published", PUBLISHED_EPOCH_S * rate / EPOCH))  # fmt: skip
    for who, target in (("timm", 1.0), ("naive", None)):
        if best_of["ours"] and best_of[who]:
            ratio = best_of["ours"] / best_of[who]
            rows.append(Row(f"best setting of ours against {who}'s", "images/s", best_of["ours"], best_of[who], who, ratio,
                            f">= {target}x" if target else "", ratio >= target if target else None))  # fmt: skip
    for label, side in sides.items():
        what = (
            f"{label}: MFU {side['mfu']:.1%}, peak {side['peak_gb']:.1f} GiB, host syncs per step {side['host_syncs']}"
        )
        rows.append(Row(what, "images/s", side["images_per_s"]))
    for label, what in (
        ("augment", "normalise, erase and mix"),
        ("augment.device", "resize, RandAugment and all that"),
    ):
        if "ms" in found.get(label, {}):
            rows.append(Row(f"{what} a batch on the device", "ms", found[label]["ms"]))
    if "gb" in (save := found.get("save", {})):
        ours, waited = (save[key] / save["gb"] for key in ("overlapped_ms", "waited_ms"))
        rows.append(Row("pause per GB of a checkpoint", "ms", ours, waited, "copy waited for", ours / waited))
    return rows


def failures(found: dict[str, Any]) -> list[str]:
    """Return a line for each part without figures: its target was not tested."""
    parts = found["sides"] | {label: part for label, part in found.items() if isinstance(part, dict)}
    return [f"no figures of {label}: {part['failed']}" for label, part in parts.items() if "failed" in part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a tiny model, eager only")
    parser.add_argument(
        "--seconds", type=float, default=540, help="time limit; a part that may take longer is left out (540)"
    )
    parser.add_argument("--workers", type=int, default=8, help="loader processes of the whole pipelines (8)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    job = Job(device, workers=args.workers)
    if args.quick:
        job = Job(device, "test_vit", 32, 8, 4, steps=2, rounds=1, workers=1)
        globals()["SIDES"] = tuple(side for side in SIDES if not side[3])
    facts = {**about(device), "job": {key: str(value) for key, value in vars(job).items()}}

    def keep(found: dict[str, Any]) -> None:
        if args.json:
            write_json(args.json, rows_of(found, job), **facts, **found)

    found = measure(job, args.quick, args.seconds, keep)
    print_table(rows_of(found, job))
    for line in failures(found):
        print(line)


if __name__ == "__main__":
    main()
