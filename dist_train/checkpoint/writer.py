"""A process that writes checkpoints while training continues: ``python -m dist_train.checkpoint.writer FD``.

The trainer copies its tensors into shared memory (a memfd, because /dev/shm has a size limit) and sends a job over a
pipe; the writer answers when the checkpoint is on disk. This is a process, not a thread, because a thread would hold the
trainer's interpreter lock (GIL). It copies only bytes, so it does not import torch.
"""

import json
import mmap
import os
import pickle
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from dist_train.checkpoint.manifest import MANIFEST, STATE, Job, Manifest
from dist_train.checkpoint.staged_files import publish, stage
from dist_train.system.files import fsync_dir, patiently
from dist_train.system.processes import die_with_parent

CHUNK = 16 * 2**20


def carry_out(job: Job, payload: memoryview) -> None:
    """Write a checkpoint and its extra files.

    Raises:
        OSError: the disk fails. Earlier checkpoints and their files are unchanged.
    """
    if job.rows is not None:
        patiently(partial(_make_durable, job.rows))
    for file in job.extra_files:
        content = [memoryview(file.head), *(payload[begin:end] for begin, end in file.ranges)]
        patiently(partial(stage, file.path, job.manifest.name, content))
    write_checkpoint(job.folder, job.manifest, job.keep, [memoryview(job.header), payload])
    for folder in {file.path.parent for file in job.extra_files}:
        patiently(partial(publish, folder, job.manifest.name))


def write_checkpoint(folder: Path, manifest: Manifest, keep: int, content: list[memoryview]) -> None:
    """Write one checkpoint and flush it to disk, then remove the oldest ones so that ``keep`` remain.

    Retries after transient errors; removes a half-written folder.

    Args:
        content: the bytes of ``state.safetensors``, in pieces.

    Raises:
        OSError: the disk fails. Earlier checkpoints are unchanged.
    """
    patiently(lambda: _write_once(folder, manifest, content))
    for old in sorted(folder.glob("step_*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _write_once(folder: Path, manifest: Manifest, content: list[memoryview]) -> None:
    target = folder / manifest.name
    if target.exists():
        return
    folder.mkdir(exist_ok=True)  # without parents: if the run folder has disappeared, that is an error
    for leftover in folder.glob(".step_*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = folder / f".{target.name}.tmp"
    temporary.mkdir()
    try:
        digest, size = sha256(), 0
        with open(temporary / STATE, "wb") as file:
            for chunk in _chunks(content):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            _sync(file)
        with open(temporary / MANIFEST, "w") as text:
            json.dump(asdict(manifest) | {"bytes": size, "sha256": digest.hexdigest()}, text, indent=2)
            _sync(text)
        fsync_dir(temporary)
        os.rename(temporary, target)
        fsync_dir(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _make_durable(path: Path) -> None:
    """Flush to disk what another process has written to ``path``, if the file exists."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        os.fsync(file.fileno())


def _chunks(content: list[memoryview]) -> Iterable[memoryview]:
    for piece in content:
        for start in range(0, len(piece), CHUNK):
            yield piece[start : start + CHUNK]


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def main(memory_fd: int) -> None:
    """Read jobs from stdin until ``None``; answer each on stdout with an empty line, or with the error.

    The trainer starts this process with the stop signals ignored.
    """
    die_with_parent()  # a writer must not write after its trainer has died
    while True:
        try:
            job: Job | None = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent, by a pipe that nobody else has
        except EOFError:
            return
        if job is None:
            return
        try:
            carry_out(job, memoryview(mmap.mmap(memory_fd, job.payload_bytes, prot=mmap.PROT_READ)))
            answer = ""
        except OSError as error:
            answer = f"{error.strerror or error} ({error.filename or job.folder})"
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
