"""glibc's settings: large blocks are kept for training, and mapped one by one again afterwards. The collector can pause."""

import ctypes
import gc
import platform

import pytest

from dist_train.system.machine.memory import keep_freed_memory, restored_malloc, uncollected
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


def test_the_collector_pauses_also_if_the_block_fails() -> None:
    with pytest.raises(ValueError, match="x"), uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled(), "the inner block found it paused"
        raise ValueError("x")
    assert gc.isenabled()
