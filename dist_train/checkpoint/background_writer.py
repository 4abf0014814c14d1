"""The trainer's side of the writer process: ``checkpoint.memory: full``."""

import contextlib
import os
import pickle
import select
import subprocess
import sys

import torch

from dist_train.checkpoint.format import Layout, copy_into
from dist_train.checkpoint.manifest import Job
from dist_train.checkpoint.shared_memory import SharedMemory
from dist_train.system.signals import ignore_stop_signals

LOOK_EVERY_S = 0.5
"""While a write is waited for, so often the waiting thread uses the CPU: that is its sign of life for other ranks."""


class WriterDied(Exception):
    """The writer process has ended."""


class BackgroundWriter:
    """Copies a state into shared memory; a process writes it while training continues."""

    def __init__(self) -> None:
        self._memory: SharedMemory | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process. Its first answer says that it is ready.

        Raises:
            OSError: the system has no more memory or processes.
        """
        self._memory = SharedMemory()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dist_train.checkpoint.writer", str(self._memory.fd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._memory.fd],
            preexec_fn=ignore_stop_signals,  # from its very start: a signal may come while Python still starts
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": ""},
        )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def reserve(self, size: int, device: torch.device) -> None:
        """Allocate the memory for a state of ``size`` bytes, without waiting for it."""
        assert self._memory is not None
        self._memory.reserve(size, device)

    def begin(self, job: Job, layout: Layout) -> None:
        """Copy the state and start to write it.

        Raises:
            OSError: out of memory for the copy.
            WriterDied: the process has died.
        """
        assert self._memory is not None
        copy_into(self._memory.of(layout.payload_bytes), layout)
        assert self.process.stdin is not None
        try:
            pickle.dump(job, self.process.stdin)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def answers_within(self, limit_s: float) -> bool:
        """Return whether there is an answer, after at most ``limit_s`` seconds."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout.fileno()], [], [], limit_s)[0])

    def answer(self) -> str:
        """Wait for the answer: empty, or what went wrong.

        Raises:
            WriterDied: the process has died.
        """
        assert self.process.stdout is not None
        while not self.answers_within(LOOK_EVERY_S):
            pass
        line = self.process.stdout.readline()
        if not line:
            raise self._died()
        return line.decode().strip()

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process after its current write, and free the memory. A second call does nothing."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()

    def _died(self) -> WriterDied:
        return WriterDied(f"the process that writes checkpoints died (exit code {self.process.wait()})")


def _end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    # Closing the pipe is not enough: loader processes forked since then also hold it open.
    with contextlib.suppress(BrokenPipeError):  # the writer died; ``wait`` has already reported that
        pickle.dump(None, process.stdin)
        process.stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.wait()
    process.stdout.close()
