"""A process that writes checkpoints while training goes on: ``python -m dist_train.writer FD``.

The trainer copies its tensors into memory that both processes see (a memfd, which no size limit of /dev/shm
touches) and sends an outline of the state over a pipe; the answer comes back when the checkpoint is on disk. A
process is used rather than a thread because a thread would hold the trainer's interpreter lock while it writes.
"""

import ctypes
import errno
import json
import mmap
import os
import pickle
import shutil
import signal
import sys
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dist_train.files import fsync_dir
from dist_train.snapshot import Job, Manifest, fill
from dist_train.tensor_files import save_state

TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR}
"""Errors that a network file system may get over."""
PAUSES_S = (1.0, 5.0, 15.0)


def write_checkpoint(folder: Path, manifest: Manifest, keep: int, state: Any) -> None:
    """Write one checkpoint durably under its name, then remove the oldest beyond ``keep``.

    Transient errors are retried; what was half written is removed.

    Raises:
        OSError: the disk does not take it. Earlier checkpoints are as they were.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            _write_once(folder, manifest, state)
            break
        except OSError as error:
            if error.errno not in TRANSIENT or pause_s is None:
                raise
            time.sleep(pause_s)
    for old in sorted(folder.glob("step_*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _write_once(folder: Path, manifest: Manifest, state: Any) -> None:
    target = folder / manifest.name
    if target.exists():
        return
    folder.mkdir(exist_ok=True)  # not its parents: a run folder that has vanished is an error
    for leftover in folder.glob(".step_*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = folder / f".{target.name}.tmp"
    temporary.mkdir()
    try:
        with open(temporary / "state.pt", "wb") as file:
            hashing = _Hashing(file)
            try:
                save_state(hashing, state)  # type: ignore[arg-type]
            except RuntimeError as error:  # torch's archive writer hides why the file did not take a write
                raise hashing.fault or error from None
            _sync(file)
        described = asdict(manifest) | {"bytes": hashing.bytes, "sha256": hashing.digest.hexdigest()}
        with open(temporary / "manifest.json", "w") as text:
            json.dump(described, text, indent=2)
            _sync(text)
        fsync_dir(temporary)
        os.rename(temporary, target)
        fsync_dir(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


class _Hashing:
    """A file that knows the SHA-256 of what went through it, and the error that a write met."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.bytes = file, sha256(), 0
        self.fault: OSError | None = None

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.bytes += memoryview(data).nbytes
        try:
            return self._file.write(data)
        except OSError as error:
            self.fault = error
            raise

    def flush(self) -> None:
        self._file.flush()


def main(memory_fd: int) -> None:
    """Serve jobs from stdin until it closes; answer each on stdout with an empty line or the error.

    The trainer starts this process with the stop signals ignored.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a writer without its trainer writes nothing
    torch.set_num_threads(1)
    memory = None
    while True:
        try:
            job: Job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if memory is None or len(memory) != job.memory_bytes:
            memory = mmap.mmap(memory_fd, job.memory_bytes)
        try:
            write_checkpoint(job.folder, job.manifest, job.keep, fill(job.outline, memory))
            answer = ""
        except OSError as error:
            answer = f"{error.strerror or error} ({error.filename or job.folder})"
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
