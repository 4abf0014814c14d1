"""The memory for a copy of the state: allocated before it is needed, and never cleared while a write reads from it."""

import os
import platform
import re
import resource
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dist_train.checkpoint.copied import shared_memory
from dist_train.checkpoint.copied.shared_memory import SharedMemory
from tests.support.fake_cuda import GPU, pretend_gpu
from tests.support.ranks import run_ranks

CPU = torch.device("cpu")
SIZE = 64 * 2**20


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _written(memory: SharedMemory, size: int) -> int:
    """Fill the memory. Return how many pages had to be allocated or mapped for it."""
    content, place = torch.ones(size, dtype=torch.uint8), memory.of(size)
    target = torch.frombuffer(place, dtype=torch.uint8, count=size)
    before = _faults()
    target.copy_(content)
    return _faults() - before


NO_ADVICE = 9999
"""An advice that each kernel refuses, as those before Linux 5.14 refuse ours."""


@pytest.mark.parametrize("advice", [shared_memory.MADV_POPULATE_WRITE, NO_ADVICE])
def test_after_a_reservation_the_first_copy_costs_what_a_later_one_costs(
    advice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "MADV_POPULATE_WRITE", advice)
    reserved, not_reserved = SharedMemory(), SharedMemory()
    reserved.reserve(SIZE, CPU)
    reserved.of(SIZE)
    first, later, cold = _written(reserved, SIZE), _written(reserved, SIZE), _written(not_reserved, SIZE)
    assert cold >= SIZE / 2**21, "so many huge pages at least: the test measures something"
    assert first <= later + cold / 10
    reserved.close()
    not_reserved.close()


def _kilobytes(what: str) -> int:
    """Return a number of /proc/self/smaps about the memory for a save."""
    _, _, about = Path("/proc/self/smaps").read_text().partition("memfd:checkpoint")
    found = re.search(rf"^{what}:\s+(\d+) kB", about, re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.skipif(
    tuple(int(part) for part in platform.release().split(".")[:2]) < (5, 14),
    reason="the kernel is older than the advice",
)
def test_reserved_pages_are_marked_as_written() -> None:
    """A virtual machine may need as long for the first write to a page that was only read as for a copy of it."""
    memory = SharedMemory()
    memory.reserve(SIZE, CPU)
    memory.of(SIZE)
    assert (_kilobytes("Private_Dirty"), _kilobytes("Private_Clean")) == (SIZE // 1024, 0)
    memory.close()


def test_a_reservation_is_not_waited_for() -> None:
    memory, began = SharedMemory(), time.monotonic()
    memory.reserve(4 * SIZE, CPU)
    asked = time.monotonic() - began
    memory.of(4 * SIZE)
    assert asked < max(0.02, (time.monotonic() - began) / 2)
    memory.close()


def test_it_grows_and_keeps_what_it_holds() -> None:
    """A write from it may be in flight when the state grows (``model.unfreeze_epoch``)."""
    memory = SharedMemory()
    memory.reserve(10_000, CPU)
    torch.frombuffer(memory.of(10_000), dtype=torch.uint8).fill_(7)
    memory.reserve(SIZE, CPU)
    assert len(memory.of(SIZE)) == SIZE
    assert os.pread(memory.fd, 10_000, 0) == b"\x07" * 10_000
    memory.reserve(5_000, CPU)
    assert len(memory.of(5_000)) == SIZE, "it does not shrink"
    assert len(memory.of(2 * SIZE)) == 2 * SIZE, "without a reservation too"
    memory.close()


def test_nothing_is_left_after_the_end() -> None:
    opened = set(os.listdir("/proc/self/fd"))
    memory = SharedMemory()
    memory.reserve(SIZE, CPU)
    memory.close()
    assert set(os.listdir("/proc/self/fd")) == opened
    assert "memfd:checkpoint" not in Path("/proc/self/maps").read_text()


def _pinned_and_released() -> list[dict[int, int]]:
    gpu = pretend_gpu()
    memory, seen = SharedMemory(), []
    memory.reserve(SIZE, GPU)
    place = memory.of(SIZE)
    seen.append(dict(gpu.registered))
    memory.reserve(2 * SIZE, GPU)
    del place
    memory.of(2 * SIZE)
    seen.append(dict(gpu.registered))
    memory.close()
    saved_before = SharedMemory()  # a resumed run that evaluates, and saves, before its first step
    saved_before.of(2 * SIZE)
    saved_before.reserve(SIZE, GPU)
    saved_before.of(SIZE)
    seen.append(dict(gpu.registered))
    saved_before.close()
    return [*seen, dict(gpu.registered)]


def test_for_a_gpu_the_memory_is_pinned_once_and_released() -> None:
    """No more than the state needs: that is all the host memory of a save."""
    [(first, grown, late, end)] = run_ranks(1, _pinned_and_released)
    assert (list(first.values()), list(grown.values()), list(late.values()), end) == (
        [SIZE],
        [2 * SIZE],
        [2 * SIZE],
        {},
    )


def _not_pinned() -> int:
    pretend_gpu()
    torch.cuda.cudart = lambda: SimpleNamespace(cudaHostRegister=lambda *_: 2)
    memory = SharedMemory()
    memory.reserve(SIZE, GPU)
    size = len(memory.of(SIZE))
    memory.close()
    return size


def test_memory_that_cannot_be_pinned_is_used_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_ranks(1, _not_pinned) == [SIZE]
    assert "cannot be pinned (CUDA error 2): saves take longer" in capfd.readouterr().out
