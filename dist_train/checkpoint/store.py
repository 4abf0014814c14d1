"""Checkpoints: written in the background, whole; verified when read; a few kept.

``checkpoints/step_00000123/`` holds ``state.safetensors`` and ``manifest.json``, which says how long ``state.safetensors`` is and
what its SHA-256 is. The folder appears under its name by one rename, when both are on disk.
"""

import contextlib
import json
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
from dist_train.checkpoint.manifest import FORMAT, MANIFEST, STATE, Companion, Job, Manifest
from dist_train.errors import ConfigError, DistTrainError
from dist_train.system.files import patiently, sha256_of
from dist_train.system.signals import ignore_stop_signals

log = logging.getLogger(__name__)


Beside = dict[Path, bytes | str]
"""Files that belong to a checkpoint: their bytes, or which part of the state they hold as weights, ``"model"`` or ``"ema"``."""


class SaveError(DistTrainError):
    """A checkpoint could not be written. Earlier ones are intact."""


class ReadError(DistTrainError):
    """A checkpoint may be whole, but the disk does not let us see."""


class Checkpoints:
    """The checkpoints of one run; for rank 0 alone.

    ``save`` returns when the state is copied; the write itself goes on in a process of its own. There is at most
    one write in flight, and ``wait`` ends it. ``write_s`` is how long the last one took, from ``save`` on.

    Args:
        rows: ``metrics.jsonl``, which must outlive a power loss as far as a checkpoint goes.
    """

    def __init__(self, folder: Path, keep: int, rows: Path | None = None) -> None:
        self._folder, self._keep, self._rows = folder, keep, rows
        self._memory: mmap.mmap | None = None
        self._memory_fd = -1
        self._writer: subprocess.Popen[bytes] | None = None
        self._in_flight = ""
        self._began = 0.0
        self.write_s = 0.0

    def save(self, state: dict[str, Any], manifest: Manifest, beside: Beside | None = None) -> None:
        """Copy ``state`` and start writing it.

        Args:
            beside: files that take their place when the checkpoint is on disk.

        Raises:
            SaveError: the write before this one failed.
        """
        self.wait()
        self._began = time.monotonic()
        layout = lay_out(state)
        copy_into(self._shared_memory(layout.payload_bytes), layout)
        writer = self._running_writer()
        assert writer.stdin is not None
        companions = [
            Companion(path, content, []) if isinstance(content, bytes) else Companion(path, *excerpt(layout, content))
            for path, content in (beside or {}).items()
        ]
        job = Job(self._folder, self._rows, manifest, self._keep, layout.header, layout.payload_bytes, companions)
        try:
            pickle.dump(job, writer.stdin)
            writer.stdin.flush()
        except BrokenPipeError:
            raise SaveError(f"the process that writes checkpoints died (exit code {writer.wait()})") from None
        self._in_flight = manifest.name

    @property
    def busy(self) -> bool:
        """Whether a write is in flight, as far as ``poll`` knows."""
        return bool(self._in_flight)

    def poll(self) -> None:
        """Look, without waiting, whether the write in flight is done.

        Raises:
            SaveError: it failed.
        """
        if self._in_flight and self._answer_is_there():
            self.wait()

    def wait(self) -> None:
        """Wait for the write in flight.

        Raises:
            SaveError: it failed.
        """
        if not self._in_flight:
            return
        name, self._in_flight = self._in_flight, ""
        assert self._writer is not None
        assert self._writer.stdout is not None
        answer = self._writer.stdout.readline()
        self.write_s = time.monotonic() - self._began
        if not answer:
            raise SaveError(f"the process that writes checkpoints died (exit code {self._writer.wait()}) during {name}")
        if answer.strip():
            raise SaveError(
                f"checkpoint {name} could not be written: {answer.decode().strip()}; "
                f"earlier checkpoints in {self._folder} are intact: mend the disk and start the same command again"
            )

    def abandon(self, limit_s: float) -> None:
        """After an error elsewhere: give the write in flight ``limit_s`` seconds, then end the writer. Raises nothing."""
        if self._in_flight:
            self._answer_is_there(limit_s)
            self._in_flight = ""
        if self._writer is not None:
            self._writer.kill()
        self.close()

    def close(self) -> None:
        """Wait for the write in flight, end the writer, free the memory. A second call does nothing.

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
                self._memory = None  # not closed: an error's traceback may hold tensors that lie in it
                os.close(self._memory_fd)

    def newest(self, only_look: bool = False) -> tuple[Path, Manifest] | None:
        """The newest checkpoint that verifies; damaged ones are told and, unless we ``only_look``, set aside.

        Raises:
            ConfigError: it was written by a version of this program that we cannot read.
            ReadError: the disk fails. That is no damage: what cannot be read now is not given up.
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
                f"{error.filename} cannot be read: {error.strerror}; mend the disk and start the same command again, or "
                "move this checkpoint away: then the one before it is used"
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
                preexec_fn=ignore_stop_signals,  # from its first moment on, not only once it has imported torch
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
    # Closing the pipe would not end it: loader processes forked meanwhile hold the pipe open as well.
    with contextlib.suppress(BrokenPipeError):  # it died: ``wait`` has told
        pickle.dump(None, writer.stdin)
        writer.stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        writer.stdin.close()
    writer.wait()
    writer.stdout.close()


def load(path: Path) -> Any:
    """The state in a checkpoint folder, on the CPU."""
    return put_together(*read_safetensors(path / STATE))


def _stored(folder: Path) -> list[Path]:
    """The checkpoints, oldest first. ``glob`` would find none in a folder that cannot be read."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.startswith("step_"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _set_aside(path: Path) -> None:
    aside = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    log.warning("checkpoint %s is set aside as %s", path.name, aside.name)


def _look(path: Path) -> Manifest | str:
    """A checkpoint's manifest, or why it cannot be used.

    Raises:
        OSError: the disk does not let us see.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        manifest = None
    if not isinstance(manifest, dict) or not {"sha256", "format"} <= manifest.keys():
        return "its manifest is missing or unreadable"
    if manifest["format"] != FORMAT:
        raise ConfigError(
            f"{path} has format {manifest['format']}, and this version reads {FORMAT}; use the version that wrote it"
        )
    state = path / STATE
    try:
        size = state.stat().st_size
    except FileNotFoundError:
        size = -1
    if size != manifest["bytes"]:
        return f"{STATE} has {size} bytes, the manifest says {manifest['bytes']}"
    if sha256_of(state) != manifest["sha256"]:
        return f"the SHA-256 of {STATE} is not the manifest's"
    return Manifest(**manifest)
