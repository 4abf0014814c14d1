"""A /dev/shm of its own for a process."""

import ctypes
import os
import subprocess

_CLONE_NEWNS = 0x00020000


def _can_mount() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


CAN_MOUNT = _can_mount()
"""Whether this user may make a private mount; ``small_shm`` needs that."""


def small_shm(size: str) -> None:
    """Give this process, and those that it starts, an empty /dev/shm of ``size`` (16k, 64m)."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "/dev/shm"], check=True)
