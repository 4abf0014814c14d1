"""Put one checkpoint and its extra files on disk. Without torch: the writer imports this module."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from dist_train.checkpoint.digests import ALGORITHM, new_digest
from dist_train.checkpoint.durable_file import sync, write_durably
from dist_train.checkpoint.manifest import FORMAT, MANIFEST, STATE, ExtraFile, Job, Manifest
from dist_train.checkpoint.staged_files import publish, stage
from dist_train.system.files import fsync_dir, patiently

Piece = bytes | memoryview

Payload = Callable[[int, int], Iterable[Piece]]
"""Returns the bytes from one place to another of a state's tensors, in pieces. It may be called again for the same places."""


def carry_out(job: Job, payload: Payload) -> None:
    """Write a checkpoint and its extra files.

    Raises:
        OSError: the disk fails. Earlier checkpoints and their files are unchanged.
    """
    if job.rows is not None:
        patiently(partial(_make_durable, job.rows))
    for file in job.extra_files:
        patiently(partial(_stage, file, job.manifest.name, payload))
    whole = [(0, job.payload_bytes)]
    write_checkpoint(job.folder, job.manifest, job.keep, lambda: _content(job.header, whole, payload))
    for folder in {file.path.parent for file in job.extra_files}:
        patiently(partial(publish, folder, job.manifest.name))


def answer_of(job: Job, payload: Payload) -> str:
    """Carry out a job. Return an empty text, or what went wrong, in one line."""
    try:
        carry_out(job, payload)
    except OSError as error:
        return f"{error.strerror or error} ({error.filename or job.folder})".replace("\n", " ")
    except (RuntimeError, MemoryError) as error:  # no more threads, no more memory
        return f"{str(error) or type(error).__name__} ({job.folder})".replace("\n", " ")
    return ""


def _stage(file: ExtraFile, checkpoint: str, payload: Payload) -> None:
    stage(file.path, checkpoint, _content(file.head, file.ranges, payload))


def _content(head: bytes, ranges: list[tuple[int, int]], payload: Payload) -> Iterable[Piece]:
    yield head
    for begin, end in ranges:
        yield from payload(begin, end)


def write_checkpoint(folder: Path, manifest: Manifest, keep: int, content: Callable[[], Iterable[Piece]]) -> None:
    """Write one checkpoint and flush it to disk, then remove the oldest ones so that ``keep`` remain.

    Retries after transient errors; removes a half-written folder.

    Args:
        content: returns the bytes of ``state.safetensors``, in pieces.

    Raises:
        OSError: the disk fails. Earlier checkpoints are unchanged.
    """
    patiently(lambda: _write_once(folder, manifest, content()))
    for old in sorted(folder.glob("step_*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _write_once(folder: Path, manifest: Manifest, content: Iterable[Piece]) -> None:
    target = folder / manifest.name
    if target.exists():
        return
    folder.mkdir(exist_ok=True)  # without parents: if the run folder has disappeared, that is an error
    for leftover in folder.glob(".step_*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = folder / f".{target.name}.tmp"
    temporary.mkdir()
    try:
        digest = new_digest()
        size = write_durably(temporary / STATE, content, digest)
        with open(temporary / MANIFEST, "w") as text:
            json.dump(asdict(_filled(manifest, size, digest.hexdigest())), text, indent=2)
            text.flush()
            sync(text.fileno())
        fsync_dir(temporary)
        os.rename(temporary, target)
        fsync_dir(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _filled(manifest: Manifest, size: int, digest: str) -> Manifest:
    return replace(manifest, bytes=size, algorithm=ALGORITHM, digest=digest, sha256="", format=FORMAT)


def _make_durable(path: Path) -> None:
    """Flush to disk what another process has written to ``path``, if the file exists."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        os.fsync(file.fileno())
