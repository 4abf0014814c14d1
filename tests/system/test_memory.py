"""Freed memory stays with the process when it is asked to keep it."""

import subprocess
import sys

import pytest

KEPT = """
import ctypes, sys
from dist_train.system.memory import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
if sys.argv[1] == "keep":
    keep_freed_memory()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

size = 256 * 2**20
block = libc.malloc(size)
ctypes.memset(block, 1, size)
before = resident()
libc.free(block)
print((before - resident()) / size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
@pytest.mark.parametrize(("setting", "returned"), [("keep", 0.0), ("default", 1.0)])
def test_a_large_block_is_kept_or_returned_to_the_kernel(setting: str, returned: float) -> None:
    done = subprocess.run([sys.executable, "-c", KEPT, setting], capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stdout) == pytest.approx(returned, abs=0.05)
