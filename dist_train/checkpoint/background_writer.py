"""The trainer's side of the writer process: ``checkpoint.memory: full``."""

import contextlib
import os
import pickle
import select
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from dist_train.checkpoint.copied.device_copy import DeviceCopy, gpu_of
from dist_train.checkpoint.copied.shared_memory import SharedMemory
from dist_train.checkpoint.format import Layout, copy_into
from dist_train.checkpoint.manifest import Job
from dist_train.system.signals import ignore_stop_signals

LOOK_EVERY_S = 0.5
"""While a write is waited for, so often the waiting thread uses the CPU: that is its sign of life for other ranks."""
ASK_EVERY_S = 0.001
"""While a copy from the GPU is waited for, so often the GPU is asked whether it is done."""


class WriterDied(Exception):
    """The writer process has ended."""


class BackgroundWriter:
    """Copies a state into shared memory; a process writes it while training continues.

    The state of a GPU is copied while training continues, too. The process gets its job at the first call of ``answers_within``
    after the copy.
    """

    def __init__(self) -> None:
        self._memory: SharedMemory | None = None
        self._copying: tuple[DeviceCopy, Job] | None = None
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
        """Allocate the memory for a state of ``size`` bytes, without waiting for it; but a copy in progress ends first."""
        assert self._memory is not None
        self.settle()
        self._memory.reserve(size, device)

    def begin(self, job: Job, layout: Layout, late: Callable[[str], bool]) -> None:
        """Copy the state and start to write it. For a state of a GPU, begin to copy it.

        Args:
            late: whether only an update of the weights changes the tensor of this name.

        Raises:
            OSError: out of memory for the copy.
            WriterDied: the process has died.
        """
        assert self._memory is not None
        memory, gpu = self._memory.of(layout.payload_bytes), gpu_of(layout)
        if gpu is not None:
            self._copying = DeviceCopy(memory, layout, gpu, late), job
            return
        copy_into(memory, layout)
        try:
            self._send(job)
        except BrokenPipeError:
            raise self._died() from None

    def before_update(self) -> None:
        """Have the GPU finish the copy before what the host queues from now on. The host does not wait."""
        if self._copying is not None:
            self._copying[0].before_update()

    def settle(self) -> None:
        """Wait until the state is copied, and have the process begin to write it."""
        if self._copying is not None:
            self._copying[0].wait()
            self._copied_within(0.0)

    def answers_within(self, limit_s: float) -> bool:
        """Return whether there is an answer, after at most ``limit_s`` seconds."""
        assert self.process.stdout is not None
        return self._copied_within(limit_s) and bool(select.select([self.process.stdout.fileno()], [], [], limit_s)[0])

    def _copied_within(self, limit_s: float) -> bool:
        """Return whether the process has its job, after at most ``limit_s`` seconds."""
        begun = self._copying
        if begun is None:
            return True
        copy, job = begun
        deadline = time.monotonic() + limit_s
        while not copy.done():
            if time.monotonic() >= deadline:
                return False
            time.sleep(ASK_EVERY_S)
        self._copying = None
        with contextlib.suppress(BrokenPipeError):  # the process died, which ``answer`` reports
            self._send(job)
        return True

    def _send(self, job: Job) -> None:
        assert self.process.stdin is not None
        pickle.dump(job, self.process.stdin)
        self.process.stdin.flush()

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
        copying, self._copying = self._copying, None
        if copying is not None:
            with contextlib.suppress(RuntimeError):  # the GPU failed: it copies nothing any more
                copying[0].wait()
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
