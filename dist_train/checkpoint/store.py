"""Checkpoints: written in the background, atomically; verified when read; the newest few are kept.

``checkpoints/step_00000123/`` holds ``state.safetensors`` and ``manifest.json``, which records the size and the SHA-256 of
``state.safetensors``. One rename gives the folder its name, after both files are on disk.
"""

import contextlib
import errno
import logging
import mmap
import os
import pickle
import select
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from dist_train.checkpoint.format import copy_into, excerpt, lay_out, put_together, read_safetensors
from dist_train.checkpoint.manifest import FORMAT, MANIFEST, STATE, ExtraFile, Job, Manifest
from dist_train.errors import ConfigError, DistTrainError
from dist_train.system.files import patiently, read_json, sha256_of
from dist_train.system.signals import ignore_stop_signals

log = logging.getLogger(__name__)


LOOK_EVERY_S = 0.5
"""While a write is waited for, so often the waiting thread uses the CPU: that is its sign of life for other ranks."""

ExtraFiles = dict[Path, bytes | str]
"""Files to publish with a checkpoint: their bytes, or the part of the state that they hold, ``"model"`` or ``"ema"``."""


class SaveError(DistTrainError):
    """A checkpoint could not be written. Earlier checkpoints are intact."""


class ReadError(DistTrainError):
    """A checkpoint cannot be read because the disk fails; it may be valid."""


class Checkpoints:
    """The checkpoints of one run. For rank 0 only.

    ``save`` returns as soon as the state is copied; a separate process writes it to disk. There is at most one write at
    a time, and ``wait`` waits for it.

    Args:
        rows: ``metrics.jsonl``; after a power loss it must hold all rows up to the newest checkpoint.

    Attributes:
        write_s: the duration of the last write in seconds, from the call of ``save``.
    """

    def __init__(self, folder: Path, keep: int, rows: Path | None = None) -> None:
        self._folder, self._keep, self._rows = folder, keep, rows
        self._memory: mmap.mmap | None = None
        self._memory_fd = -1
        self._writer: subprocess.Popen[bytes] | None = None
        self._in_flight = ""
        self._began = 0.0
        self.write_s = 0.0

    def save(self, state: dict[str, Any], manifest: Manifest, extra_files: ExtraFiles | None = None) -> None:
        """Copy ``state`` and start to write it.

        Args:
            extra_files: files that get their final names when the checkpoint is on disk.

        Raises:
            SaveError: the previous write failed.
        """
        self.wait()
        self._began = time.monotonic()
        layout = lay_out(state)
        copy_into(self._shared_memory(layout.payload_bytes), layout)
        writer = self._running_writer()
        assert writer.stdin is not None
        files = [
            ExtraFile(path, content, []) if isinstance(content, bytes) else ExtraFile(path, *excerpt(layout, content))
            for path, content in (extra_files or {}).items()
        ]
        job = Job(self._folder, self._rows, manifest, self._keep, layout.header, layout.payload_bytes, files)
        try:
            pickle.dump(job, writer.stdin)
            writer.stdin.flush()
        except BrokenPipeError:
            raise SaveError(f"the process that writes checkpoints died (exit code {writer.wait()})") from None
        self._in_flight = manifest.name

    @property
    def busy(self) -> bool:
        """Return whether a write was still running at the last ``poll``."""
        return bool(self._in_flight)

    def poll(self) -> None:
        """Check, without waiting, whether the current write is done.

        Raises:
            SaveError: the write failed.
        """
        if self._in_flight and self._answer_is_there():
            self.wait()

    def wait(self) -> None:
        """Wait for the current write, if there is one.

        Raises:
            SaveError: the write failed.
        """
        if not self._in_flight:
            return
        name, self._in_flight = self._in_flight, ""
        assert self._writer is not None
        assert self._writer.stdout is not None
        while not self._answer_is_there(LOOK_EVERY_S):
            pass
        answer = self._writer.stdout.readline()
        self.write_s = time.monotonic() - self._began
        if not answer:
            raise SaveError(f"the process that writes checkpoints died (exit code {self._writer.wait()}) during {name}")
        if answer.strip():
            raise SaveError(
                f"checkpoint {name} could not be written: {answer.decode().strip()}; "
                f"earlier checkpoints in {self._folder} are intact: fix the disk and start the same command again"
            )

    def finish(self, limit_s: float) -> None:
        """After an error elsewhere: wait up to ``limit_s`` seconds for the current write."""
        if self._in_flight:
            self._answer_is_there(limit_s)

    def abandon(self) -> None:
        """Kill the writer and free its memory. After ``close`` it has no effect; it raises nothing."""
        self._in_flight = ""
        if self._writer is not None:
            self._writer.kill()
        self.close()

    def close(self) -> None:
        """Wait for the current write, end the writer, free the memory. A second call does nothing.

        Raises:
            SaveError: the last write failed.
        """
        try:
            self.wait()
        finally:
            writer, self._writer = self._writer, None
            if writer is not None:
                _end(writer)
            if self._memory is not None:
                self._memory = None  # not closed: an error's traceback may hold tensors in this memory
                os.close(self._memory_fd)

    def newest(self, only_look: bool = False) -> tuple[Path, Manifest] | None:
        """Return the newest valid checkpoint; None if there is none.

        Damaged ones on the way are logged and renamed to ``damaged-NAME``.

        Args:
            only_look: do not rename damaged ones.

        Raises:
            ConfigError: the checkpoint has a format that this version cannot read.
            ReadError: the disk fails. Such a checkpoint does not count as damaged, since it may be readable later.
        """
        try:
            for path in reversed(patiently(partial(_stored, self._folder))):
                found = patiently(partial(_look, path))
                if isinstance(found, Manifest):
                    return path, found
                log.warning("checkpoint %s is damaged (%s)", path.name, found)
                if not only_look:
                    _set_aside(path)
        except OSError as error:
            raise ReadError(
                f"{error.filename} cannot be read: {error.strerror}; fix the disk and start the same command again, or "
                "move this checkpoint out of the folder to use the previous one"
            ) from None
        return None

    def _shared_memory(self, size: int) -> mmap.mmap:
        if self._memory is None or len(self._memory) < size:
            if self._memory is None:
                self._memory_fd = os.memfd_create("checkpoint")
            os.ftruncate(self._memory_fd, size)
            self._memory = mmap.mmap(self._memory_fd, size)
        return self._memory

    def _running_writer(self) -> subprocess.Popen[bytes]:
        if self._writer is None:
            self._writer = subprocess.Popen(
                [sys.executable, "-m", "dist_train.checkpoint.writer", str(self._memory_fd)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[self._memory_fd],
                preexec_fn=ignore_stop_signals,  # from its very start: a signal may come while Python still starts
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": ""},
            )
        return self._writer

    def _answer_is_there(self, limit_s: float = 0.0) -> bool:
        assert self._writer is not None
        assert self._writer.stdout is not None
        return bool(select.select([self._writer.stdout.fileno()], [], [], limit_s)[0])


def _end(writer: "subprocess.Popen[bytes]") -> None:
    assert writer.stdin is not None
    assert writer.stdout is not None
    # Closing the pipe is not enough: loader processes forked since then also hold it open.
    with contextlib.suppress(BrokenPipeError):  # the writer died; ``wait`` has already reported that
        pickle.dump(None, writer.stdin)
        writer.stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        writer.stdin.close()
    writer.wait()
    writer.stdout.close()


def load(path: Path) -> Any:
    """Return the state in a checkpoint folder, on the CPU."""
    return put_together(*read_safetensors(path / STATE))


def _stored(folder: Path) -> list[Path]:
    """Return the checkpoint folders, oldest first. Not with ``glob``, which hides that a folder cannot be read."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.startswith("step_"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _set_aside(path: Path) -> None:
    aside = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    log.warning("checkpoint %s is renamed to %s", path.name, aside.name)


def _look(path: Path) -> Manifest | str:
    """Return a checkpoint's manifest, or the reason why it is damaged.

    Raises:
        OSError: the disk fails.
    """
    known = read_json(path / MANIFEST, default={})
    if isinstance(known.get("format"), int) and known["format"] != FORMAT:
        raise ConfigError(
            f"{path} has format {known['format']}, but this version reads {FORMAT}; use the version that wrote it"
        )
    try:
        manifest = Manifest.read(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "its manifest is missing or unreadable"
    except OSError as error:
        if error.errno not in (errno.EFBIG, errno.EINVAL, errno.EISDIR):  # too large, or not a regular file
            raise
        return f"its manifest is unreadable: {error.strerror}"
    state = path / STATE
    size = state.stat().st_size if state.is_file() else -1
    if size != manifest.bytes:
        return f"{STATE} has {size} bytes, but the manifest says {manifest.bytes}"
    if sha256_of(state) != manifest.sha256:
        return f"the SHA-256 of {STATE} differs from the manifest"
    return manifest
