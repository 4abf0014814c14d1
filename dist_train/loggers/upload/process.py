"""The trainer's side: start an uploader process, restart it if it dies, end it within a time limit.

The uploader follows ``metrics.jsonl`` and reads other files of the run folder. So a server that hangs, a client that crashes
or a bad key cannot disturb the training, and rows that the server lacks are uploaded later from the file. The trainer opens no
socket and waits only at the end, at most ``CLOSE_LIMITS_S``.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dist_train.errors import EXIT_DONE, EXIT_INCOMPLETE, exit_code_of
from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import Row
from dist_train.run.result import Status

CLOSE_LIMITS_S: dict[Status, float] = {"done": 30.0, "failed": 15.0, "stopped": 10.0}
"""Time limit of the upload at the end of an attempt. It is short after a stop: a preempted job has little time left."""
MAX_RESTARTS = 3


class Uploader:
    """One process ``python -m MODULE RUN``, kept alive."""

    def __init__(
        self,
        module: str,
        run: RunDir,
        env: Callable[[], dict[str, str]],
        say: Callable[[str], None],
        advice: str,
    ) -> None:
        """Start the process.

        Args:
            env: returns the environment of the process.
            say: prints a message.
            advice: the sentence that says how to complete the upload.

        Raises:
            OSError: no memory, or no more processes.
        """
        self._command = [sys.executable, "-m", module, str(run.path)]
        self._env, self._say, self._advice = env, say, advice
        self._restarts = 0
        self._process: subprocess.Popen[bytes] | None = self._start()

    def restart_if_dead(self) -> None:
        """Start the process again if it died. One system call, without waiting."""
        self._living()

    def close(self, status: Status) -> None:
        """Let the process upload the rest and report the end. A failed attempt does not wait: the process ends later."""
        limit = CLOSE_LIMITS_S.get(status, 10.0)
        deadline = time.monotonic() + limit
        while (process := self._living()) is not None:
            left = deadline - time.monotonic()
            message = {"status": status, "exit_code": exit_code_of(status), "limit_s": max(1.0, left - 2.0)}
            _send(process, message)
            if status == "failed":
                return
            try:
                process.wait(max(0.1, left))
            except subprocess.TimeoutExpired:
                process.kill()  # then a service process of the client ends too
                process.wait()
                self._say(f"gave up after {limit:.0f} s. {self._advice}")
                return

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=self._env(),
            start_new_session=True,  # a stop signal for the trainer must not reach the uploader
        )

    def _living(self) -> "subprocess.Popen[bytes] | None":
        """Return the process, restarted if it died; None if it has finished or cannot run."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is None:
            return self._process
        _close_pipe(self._process)
        self._process = None
        if code in (EXIT_DONE, EXIT_INCOMPLETE):
            return None
        trouble = f"the uploader died {self._restarts + 1} times"
        if self._restarts < MAX_RESTARTS:
            try:
                self._process = self._start()
                self._restarts += 1
                return self._process
            except OSError as error:  # no memory, or no more processes
                trouble = f"the uploader cannot be started again ({error})"
        self._say(f"{trouble}; training continues without this upload. {self._advice}")
        return None


class WithUploader:
    """The common part of loggers whose rows an ``Uploader`` sends; ``start`` makes it, or leaves None."""

    def __init__(self) -> None:
        self._uploader: Uploader | None = None

    def row(self, row: Row) -> None:
        """Restart the uploader if it died. It reads the row from ``metrics.jsonl``."""
        if self._uploader is not None:
            self._uploader.restart_if_dead()

    def close(self, status: Status) -> None:
        """Let the uploader send the rest and set the status of the run on the server."""
        if self._uploader is not None:
            self._uploader.close(status)


def _send(process: "subprocess.Popen[bytes]", message: dict[str, Any]) -> None:
    """Send the uploader its only message: how the attempt ended."""
    assert process.stdin is not None
    with suppress(OSError):  # it died; its exit code shows that
        process.stdin.write(json.dumps(message).encode() + b"\n")  # much smaller than the buffer of a pipe
    _close_pipe(process)


def _close_pipe(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    with suppress(OSError):  # text that could not be written
        process.stdin.close()
