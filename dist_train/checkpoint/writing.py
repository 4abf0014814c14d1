"""Put one checkpoint and its extra files on disk. Without torch: the writer imports this module."""

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dist_train.checkpoint.digests import ALGORITHM, new_digest
from dist_train.checkpoint.durable_file import sync, write_durably
from dist_train.checkpoint.manifest import FORMAT, MANIFEST, SHARDED, STATE, ExtraFile, Job, Manifest
from dist_train.checkpoint.sharded.header import excerpt
from dist_train.checkpoint.sharded.joined import Joined
from dist_train.checkpoint.sharded.share import hear, tell, written
from dist_train.checkpoint.staged_files import publish, stage
from dist_train.system.files import fsync_dir, patiently

Piece = bytes | memoryview

Payload = Callable[[int, int], Iterable[Piece]]
"""Returns the bytes from one place to another of a state's tensors, in pieces. It may be called again for the same places."""


def carry_out(job: Job, payload: Payload) -> None:
    """Write a checkpoint and its extra files, or this rank's share of a sharded one.

    Raises:
        OSError: the disk fails. Earlier checkpoints and their files are unchanged.
        ShareError, ValueError: as ``seal_shares`` raises them.
    """
    if job.share is not None and job.share.rank:
        write_share(job, payload)
        return
    if job.rows is not None:
        patiently(partial(_make_durable, job.rows))
    if job.share is not None:
        seal_shares(job, payload)
    else:
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
    except (OSError, RuntimeError, MemoryError, ValueError) as error:
        return _in_one_line(job, error)
    return ""


def _in_one_line(job: Job, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or error} ({error.filename or job.folder})".replace("\n", " ")
    return f"{str(error) or type(error).__name__} ({job.folder})".replace("\n", " ")  # no more threads, no more memory


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
    _prune(folder, keep)


def _write_once(folder: Path, manifest: Manifest, content: Iterable[Piece]) -> None:
    target = folder / manifest.name
    if target.exists():
        return
    temporary = folder / f".{target.name}.tmp"
    _clear(folder)
    temporary.mkdir()
    try:
        digest = new_digest()
        size = write_durably(temporary / STATE, content, digest)
        _seal(temporary, target, _filled(manifest, size, digest.hexdigest()))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_share(job: Job, payload: Payload) -> None:
    """Write the file of a rank other than 0 into the unfinished checkpoint, and leave a record of it, or of an error, for rank 0.

    Raises:
        OSError: the disk fails.
    """
    assert job.share is not None
    temporary = _unfinished(job)
    try:
        record = patiently(partial(_write_file, job, payload))
    except (OSError, RuntimeError, MemoryError) as error:
        (temporary / job.share.file).unlink(missing_ok=True)  # makes room for the record
        with suppress(OSError):
            tell(temporary, job.share, {"error": _in_one_line(job, error)})
        raise
    patiently(partial(tell, temporary, job.share, record))


def seal_shares(job: Job, payload: Payload) -> None:
    """Write the file of rank 0, wait for those of the other ranks, and make all of them one checkpoint.

    Extra files are put together from the files of all ranks, so that no rank needs memory for whole tensors.

    Raises:
        OSError: the disk fails.
        ShareError: another rank has not written its file.
        ValueError: the files of the ranks do not belong together.
    """
    assert job.share is not None
    temporary, target = _unfinished(job), job.folder / job.manifest.name
    if target.exists():
        _stage_joined(job, target)
        return
    try:
        patiently(partial(_clear, job.folder, temporary))
        shards = [patiently(partial(_write_file, job, payload)), *hear(temporary, job.share)]
        _stage_joined(job, temporary)
        patiently(partial(_seal, temporary, target, _of_shards(job.manifest, shards)))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _prune(job.folder, job.keep)


def _unfinished(job: Job) -> Path:
    """Return the folder of this save before it is a checkpoint. No other save has the same."""
    assert job.share is not None
    return job.folder / f".{job.manifest.name}.{job.share.token}.tmp"


def _write_file(job: Job, payload: Payload) -> dict[str, Any]:
    assert job.share is not None
    job.folder.mkdir(exist_ok=True)  # without parents: if the run folder has disappeared, that is an error
    _unfinished(job).mkdir(exist_ok=True)
    digest = new_digest()
    content = _content(job.header, [(0, job.payload_bytes)], payload)
    size = write_durably(_unfinished(job) / job.share.file, content, digest)
    return written(job.share.file, size, digest.hexdigest())


def _stage_joined(job: Job, folder: Path) -> None:
    """Stage the extra files, from the files of all ranks.

    Raises:
        ValueError: these do not belong together.
    """
    assert job.share is not None
    joined = Joined([folder / job.share.of(rank) for rank in range(job.share.ranks)])
    for file in job.extra_files:
        head, ranges = excerpt(joined.header, file.part) if file.part else (file.head, [])
        patiently(partial(_stage, replace(file, head=head, ranges=ranges), job.manifest.name, joined.payload))


def _clear(folder: Path, but: Path | None = None) -> None:
    """Make the folder of checkpoints, and remove the unfinished ones of killed writers."""
    folder.mkdir(exist_ok=True)  # without parents: if the run folder has disappeared, that is an error
    for leftover in folder.glob(".step_*.tmp"):
        if leftover != but:
            shutil.rmtree(leftover, ignore_errors=True)


def _seal(temporary: Path, target: Path, manifest: Manifest) -> None:
    """Make a folder whose files are on disk a checkpoint."""
    with open(temporary / MANIFEST, "w") as text:
        text.write(manifest.text)
        text.flush()
        sync(text.fileno())
    fsync_dir(temporary)
    os.rename(temporary, target)
    fsync_dir(target.parent)


def _prune(folder: Path, keep: int) -> None:
    for old in sorted(folder.glob("step_*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _filled(manifest: Manifest, size: int, digest: str) -> Manifest:
    return replace(manifest, bytes=size, algorithm=ALGORITHM, digest=digest, sha256="", format=FORMAT, shards=[])


def _of_shards(manifest: Manifest, shards: list[dict[str, Any]]) -> Manifest:
    digest = new_digest()
    digest.update(memoryview("".join(shard["digest"] for shard in shards).encode()))
    filled = _filled(manifest, sum(shard["bytes"] for shard in shards), digest.hexdigest())
    return replace(filled, format=SHARDED, shards=shards)


def _make_durable(path: Path) -> None:
    """Flush to disk what another process has written to ``path``, if the file exists."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        os.fsync(file.fileno())
