"""Checkpoints of a run: saved without waiting for the disk, the newest few kept.

``checkpoints/step_00000123/`` holds ``state.safetensors`` and ``manifest.json``, which records the size and the digest of
``state.safetensors``. One rename gives the folder its name, after both files are on disk. A sharded one holds a file of each
rank, ``state.0-of-2.safetensors``, instead.
"""

import errno
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from dist_train.checkpoint.background_writer import BackgroundWriter, WriterDied
from dist_train.checkpoint.direct_writer import DirectWriter
from dist_train.checkpoint.format import Layout, lay_out
from dist_train.checkpoint.manifest import ExtraFile, Job, Manifest
from dist_train.checkpoint.sharded.header import excerpt
from dist_train.checkpoint.sharded.share import Share
from dist_train.checkpoint.stored import newest
from dist_train.config.sections.checkpoint import Memory
from dist_train.errors import DistTrainError
from dist_train.system.machine.clock import awake_s

ExtraFiles = dict[Path, bytes | str]
"""Files to publish with a checkpoint: their bytes, or the part of the state that they hold, ``"model"`` or ``"ema"``."""

START = "its start"
MORE = 2**20
"""Bytes, and 1 %, for what ``reserve`` is not told of: running sums of each rank, buffers of each rank."""
WRITERS: dict[Memory, type[BackgroundWriter | DirectWriter]] = {"full": BackgroundWriter, "low": DirectWriter}


class SaveError(DistTrainError):
    """A checkpoint could not be written. Earlier checkpoints are intact."""


class Checkpoints:
    """The checkpoints of one run. For rank 0, and for the other ranks if each saves its share.

    ``save`` returns as soon as the state is copied; a separate process writes it to disk. There is at most one write at
    a time, and ``wait`` waits for it. From a GPU the state is copied after ``save`` returns: call ``before_update`` before
    anything changes weights, moments or EMA, and ``poll`` or ``settle`` for the write to begin.

    Args:
        rows: ``metrics.jsonl``; after a power loss it must hold all rows up to the newest checkpoint.
        memory: ``checkpoint.memory``. With ``low``, ``save`` returns when the checkpoint is on disk.

    Attributes:
        write_s: the duration of the last write in seconds, from the call of ``save``.
    """

    def __init__(self, folder: Path, keep: int, rows: Path | None = None, memory: Memory = "full") -> None:
        self._folder, self._keep, self._rows = folder, keep, rows
        self._writer = WRITERS[memory]()
        self._started = False
        self._in_flight = ""
        self._began = 0.0
        self.write_s = 0.0

    def start(self) -> None:
        """Start the process that writes, with all its code. ``wait`` waits until it is ready. A second call does nothing.

        Raises:
            SaveError: it cannot start.
        """
        if self._started:
            return
        try:
            self._writer.start()
        except OSError as error:
            raise SaveError(f"the process that writes checkpoints cannot start: {error.strerror or error}") from None
        self._started, self._in_flight = True, START

    def reserve(self, size: int, device: torch.device) -> None:
        """Allocate the memory for saves of about ``size`` bytes from ``device``. Waits for nothing.

        Without this call the first save allocates it, and takes 4 to 5 times as long as the later ones.
        """
        if self._started:
            self._writer.reserve(size + size // 100 + MORE, device)

    def ticket(self, manifest: Manifest) -> str:
        """Wait for the previous write, and return a token for the shares of all ranks in the next one. For rank 0.

        It is empty if this checkpoint already exists: then the other ranks have nothing to save.

        Raises:
            SaveError: the previous write failed.
        """
        self.wait()
        return "" if (self._folder / manifest.name).exists() else secrets.token_hex(4)

    def save(
        self,
        state: dict[str, Any],
        manifest: Manifest,
        extra_files: ExtraFiles | None = None,
        share: Share | None = None,
        late: Callable[[str], bool] = lambda name: False,
    ) -> None:
        """Copy ``state`` and start to write it.

        Args:
            extra_files: files that get their final names when the checkpoint is on disk.
            late: whether only an update of the weights changes the tensor of this name, ``state.model.head.weight``.
            share: of this rank, for a state with pieces. Rank 0's write is done when those of all ranks are.

        Raises:
            SaveError: the previous write failed.
        """
        self.start()
        self.wait()
        self._began = awake_s()
        layout = lay_out(state, share.rank if share else 0)
        assert share is not None or not layout.divided
        files = [_extra(path, content, layout, share) for path, content in (extra_files or {}).items()]
        job = Job(self._folder, self._rows, manifest, self._keep, layout.header, layout.payload_bytes, files, share)
        try:
            self._writer.begin(job, layout, late)
        except WriterDied as error:
            raise SaveError(f"{error} before {manifest.name}") from None
        except OSError as error:
            raise SaveError(_no_copy(error)) from None
        self._in_flight = f"{manifest.name} (the file of rank {share.rank})" if share and share.rank else manifest.name

    def before_update(self) -> None:
        """Have the GPU finish the copy of the state before the update that the host queues next. The host does not wait."""
        self._writer.before_update()

    def settle(self) -> None:
        """Wait until the state is copied, so that the write begins."""
        self._writer.settle()

    @property
    def busy(self) -> bool:
        """Return whether a write was still running at the last ``poll``."""
        return bool(self._in_flight)

    def poll(self) -> None:
        """Check, without waiting, whether the current write is done.

        Raises:
            SaveError: the write failed.
        """
        if self._in_flight and self._writer.answers_within(0.0):
            self.wait()

    def wait(self) -> None:
        """Wait for the current write, or for the start of the writer, if there is one.

        Raises:
            SaveError: the write failed.
        """
        if not self._in_flight:
            return
        name, self._in_flight = self._in_flight, ""
        try:
            answer = self._writer.answer()
        except WriterDied as error:
            raise SaveError(f"{error} during {name}") from None
        if name != START:
            self.write_s = awake_s() - self._began
        if answer:
            raise SaveError(
                f"checkpoint {name} could not be written: {answer}; "
                f"earlier checkpoints in {self._folder} are intact: fix the disk and start the same command again"
            )

    def finish(self, limit_s: float) -> None:
        """After an error elsewhere: wait up to ``limit_s`` seconds for the current write."""
        if self._in_flight:
            with suppress(RuntimeError):  # the GPU failed before the state was copied
                self._writer.answers_within(limit_s)

    def abandon(self) -> None:
        """Kill the writer and free its memory. After ``close`` it has no effect; it raises nothing."""
        self._in_flight = ""
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
            self._writer.close()
            self._started = False

    def newest(self, only_look: bool = False) -> tuple[Path, Manifest] | None:
        """Return the newest valid checkpoint; None if there is none. See ``stored.newest``."""
        return newest(self._folder, only_look)


def _no_copy(error: OSError) -> str:
    if error.errno == errno.EFBIG:
        return "`ulimit -f`, the limit for the size of a file, is too low for a copy of the state: raise it"
    return f"out of memory for a copy of the state ({error.strerror or error}); set checkpoint.memory=low"


def _extra(path: Path, content: bytes | str, layout: Layout, share: Share | None) -> ExtraFile:
    if isinstance(content, bytes):
        return ExtraFile(path, content, [])
    return ExtraFile(path, b"", [], content) if share else ExtraFile(path, *excerpt(layout.header, content))
