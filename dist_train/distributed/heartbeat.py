"""Signs of life while a rank does work of unknown length between two collectives, such as a scan or a download."""

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_train.errors import DistTrainError
from dist_train.system.machine.clock import awake_s
from dist_train.system.progress import advanced

LONGEST_PAUSE_S = 2.0
"""So often, at least, ranks that wait for others return to Python, where they can react to signals."""


@dataclass(frozen=True)
class Word:
    """What a rank says while others wait for it: that it works, or how its work ended, or that it is stuck."""

    busy: bool = False
    value: Any = None
    error: DistTrainError | None = None
    stuck: bool = False


def word_of(work: Callable[[], object]) -> Word:
    """Return how ``work`` ended: its result, or its ``DistTrainError``."""
    try:
        return Word(value=work())
    except DistTrainError as error:
        return Word(error=error)


_listeners: list[Callable[[], None]] = []


@contextmanager
def heard(listener: Callable[[], None]) -> Iterator[None]:
    """Call ``listener`` at each sign of life of a long work on any rank, while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def sign_of_life() -> None:
    """Report that a rank is alive, for example to a watchdog."""
    for listener in tuple(_listeners):
        listener()


class Heartbeat:
    """A thread that calls ``beat`` regularly while the thread that started it works in the ``with`` block.

    Whether that thread is alive is read from its CPU time: any call that returns costs some. A thread that waits for a file
    system which does not answer uses none. Where it waits for other threads, these report progress with ``advance``.

    Args:
        timeout_s: after so long without CPU time, the working thread is stuck.
        beat: is called with whether the working thread is alive. If it raises, no more beats follow, and the error is
            raised at the end of the block.
    """

    def __init__(self, timeout_s: float, beat: Callable[[bool], None]) -> None:
        self._timeout_s, self._beat = timeout_s, beat
        self._worker = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._worker)
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        try:
            self._thread.start()
        except BaseException:  # the handler of a signal may raise here, when the thread runs already
            self._over.set()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the thread. Then the working thread may use the connections that ``beat`` used."""
        self._over.set()
        if kind is None:  # after an error this process ends, and must not wait for others
            self._thread.join()
            if self._error is not None:
                raise self._error

    def place(self) -> str:
        """Return where the working thread is, such as ``file_size (walk.py:131)``."""
        last = traceback.extract_stack(sys._current_frames()[self._worker])[-1]
        return f"{last.name} ({Path(last.filename).name}:{last.lineno})"

    def _signs(self) -> tuple[float, int]:
        return time.clock_gettime(self._clock), advanced()

    def _run(self) -> None:
        pause_s = min(self._timeout_s / 4, LONGEST_PAUSE_S)
        signs, since = self._signs(), awake_s()
        try:
            while not self._over.wait(pause_s):
                before, signs = signs, self._signs()
                if signs != before:
                    since = awake_s()
                    sign_of_life()
                self._beat(awake_s() - since < self._timeout_s)
        except BaseException as error:  # noqa: BLE001 - raised in the working thread
            self._error = error
