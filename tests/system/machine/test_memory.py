"""glibc's settings: large blocks are kept for training, and mapped one by one again afterwards. The collector can pause."""

import ctypes
import gc
import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest

from dist_train.system.machine.memory import (
    GPU_ALLOCATOR,
    expand_gpu_segments,
    keep_freed_memory,
    restored_malloc,
    return_freed_memory,
    uncollected,
)
from tests.support.ranks import run_ranks

BLOCK = 80 * 2**20


class Mallinfo2(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def _mapped() -> int:
    """How many blocks more the C library maps for one of 80 MiB."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype, libc.malloc.restype = Mallinfo2, ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    before = libc.mallinfo2().hblks
    block = libc.malloc(BLOCK)
    mapped: int = libc.mallinfo2().hblks - before
    libc.free(block)
    return mapped


def _around() -> list[int]:
    found = [_mapped()]
    with restored_malloc():
        keep_freed_memory()
        found.append(_mapped())
    return [*found, _mapped()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_large_blocks_are_kept_in_the_block_and_mapped_after_it() -> None:
    assert run_ranks(1, _around) == [[1, 0, 1]]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _around_the_return() -> list[int]:
    keep_freed_memory()
    before = _resident()
    blocks = [bytearray(b"1" * (BLOCK // 80)) for _ in range(80)]
    last = bytearray(b"1" * 2**20)  # above them, so that the top of the heap cannot fall
    del blocks
    kept = _resident() - before
    return_freed_memory()
    return [kept, _resident() - before, len(last)]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_freed_memory_is_returned_before_a_fork() -> None:
    [[kept, left, _]] = run_ranks(1, _around_the_return)
    assert kept > 0.9 * BLOCK
    assert left < 0.2 * BLOCK


@pytest.mark.parametrize("chosen", GPU_ALLOCATOR)
def test_memory_on_a_gpu_grows_where_nobody_chose_otherwise(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GPU_ALLOCATOR:
        monkeypatch.setenv(name, "")  # so that the end of the test removes it
        monkeypatch.delenv(name)
    expand_gpu_segments(cuda_graphs=True)
    assert not any(name in os.environ for name in GPU_ALLOCATOR)
    monkeypatch.setenv(chosen, "max_split_size_mb:64")
    expand_gpu_segments(cuda_graphs=False)
    assert {name: os.environ[name] for name in GPU_ALLOCATOR if name in os.environ} == {chosen: "max_split_size_mb:64"}


def _settings_of_training(file: Path) -> tuple[int, str]:
    """Return what torch has read when the command has imported it."""
    from dist_train import cli

    for name in GPU_ALLOCATOR:
        os.environ.pop(name, None)
    code = cli.main(["--config", str(file), "train.max_steps=1"])
    import torch

    return code, str(torch._C._accelerator_getAllocatorSettings())


def test_the_command_that_trains_lets_it_grow(tree: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(tree))
    [(code, settings)] = run_ranks(1, _settings_of_training, file)
    assert (code, settings) == (0, "expandable_segments:True")


def test_the_collector_pauses_also_if_the_block_fails() -> None:
    with pytest.raises(ValueError, match="x"), uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled(), "the inner block found it paused"
        raise ValueError("x")
    assert gc.isenabled()
