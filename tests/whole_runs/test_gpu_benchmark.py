"""What benchmarks/gpu.py counts; a part that fails does not stop the others."""

import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_sides import FirstSteps, Job, syncs_a_step
from benchmarks.loop import Enough

QUICK = Job(torch.device("cpu"), "test_vit", 32, 8, 4, steps=2, rounds=1, workers=1)


def test_waits_for_the_gpu_are_counted_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's own mode, which has something to say of itself too when it is first used."""

    def two_waits_a_step(steps: int) -> float:
        for _ in range(2 * steps):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        return 0.0

    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    assert syncs_a_step(Job(torch.device("cuda", 0)), two_waits_a_step) == 2.0


class _SlowToRest(Job):
    def clock(self) -> float:
        time.sleep(0.1)
        return time.perf_counter()


def test_the_device_coming_to_rest_is_no_wait_for_data() -> None:
    stepper = SimpleNamespace(waited_s=0.0)
    batches = FirstSteps(iter(range(10)), _SlowToRest(torch.device("cpu"), steps=2, rounds=1), 2, stepper)  # type: ignore[arg-type]
    with pytest.raises(Enough):
        while True:  # as a step does
            began = time.perf_counter()
            next(batches)  # type: ignore[call-overload]
            stepper.waited_s += time.perf_counter() - began
    assert batches.waited < 0.05


def test_a_part_that_fails_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    def works(_job: Job, _folder: Path, _precision: str, _compiled: bool) -> Any:
        return lambda steps: 0.5

    monkeypatch.setattr(gpu, "SIDES", (("ours", out_of_memory, "amp_bf16", False), ("timm", works, "amp_bf16", False)))
    for name in ("measure_real", "augment_ms", "measure_save"):
        monkeypatch.setattr(gpu, name, out_of_memory)
    for slow in ("small_folder", "free"):
        monkeypatch.setattr(gpu, slow, lambda *_, **__: None)
    kept: list[int] = []
    found = gpu.measure(QUICK, True, 60.0, lambda found: kept.append(len(gpu.rows_of(found, QUICK))))
    assert found["sides"]["timm, amp_bf16, eager"]["images_per_s"] == 16
    assert kept == [0, 1, 1, 1, 1]
    assert gpu.failures(found)[0] == "no figures of ours, amp_bf16, eager: OutOfMemoryError: CUDA out of memory."
    assert len(gpu.failures(found)) == 4
    late = gpu.measure(QUICK, True, 0.0, lambda _: None)
    assert len(gpu.failures(late)) == 5
    assert "not enough time left" in gpu.failures(late)[0]


@pytest.mark.parametrize(("peak", "shares"), [(989.0, [0.6, 0.42]), (None, [0.6])])
def test_the_rate_is_judged_by_what_the_card_can(peak: float | None, shares: list[float]) -> None:
    side = {"images_per_s": 1248.0, "mfu": 0.6, "peak_gb": 20.0, "host_syncs": 0.0}
    found = {"sides": {"ours, amp_bf16, compiled": side}, "gflop_per_image": 332.9, "peak_tflops": peak}
    judged = [row for row in gpu.rows_of(found, QUICK) if row.what == "MFU, amp_bf16, compiled"]
    assert [row.ours for row in judged] == pytest.approx(shares, abs=1e-3)
    assert all(row.met for row in judged)
