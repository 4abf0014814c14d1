"""A stop signal before the training hears signals: the process ends at once, and ``result.json`` says why."""

import logging
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dist_train.errors import EXIT_STOPPED
from dist_train.run.folder import RunDir
from dist_train.run.lock import held_by_another
from dist_train.run.result import Result, progress_of, read_result, write_result
from dist_train.system.processes import leave_at_once
from dist_train.system.signals import heard_signals, in_main_thread, restored_handlers, wakeup_pipe
from dist_train.system.terminal import is_first_rank

log = logging.getLogger(__name__)


@contextmanager
def stops_at_start_recorded(run: RunDir) -> Iterator[None]:
    """Let a stop signal end this process in the block, whatever the main thread does: an import, a wait for other ranks.

    Rank 0 notes the signal in ``result.json``.
    """
    if not in_main_thread():
        yield
        return
    over = threading.Event()
    with restored_handlers(), wakeup_pipe() as (reader, writer):
        heard = heard_signals()
        for number in heard:
            signal.signal(number, lambda *_: None)  # the thread acts: this one may wait in C++
        watch = threading.Thread(target=_watch, args=(reader, heard, over, run), name="stop at start", daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            with suppress(BlockingIOError):  # full: then it wakes up anyway
                os.write(writer, b"\0")
            watch.join()


def _watch(reader: int, heard: list[signal.Signals], over: threading.Event, run: RunDir) -> None:
    while True:
        select.select([reader], [], [])
        numbers = set(os.read(reader, 64)) & set(heard)
        if numbers:
            name = signal.Signals(min(numbers)).name
            try:
                if is_first_rank():
                    message = f"stopped by {name} before the first step"
                    note_stop_at_start(run, message)
                    with suppress(OSError):  # past sys.stderr, whose lock the main thread may hold
                        os.write(2, f"{message}\n".encode())
            finally:
                leave_at_once(EXIT_STOPPED)
        if over.is_set():
            return


def note_stop_at_start(run: RunDir, message: str) -> None:
    """Write to ``result.json`` that a start was stopped before its first step.

    A run that has ended keeps its result, and a run that another process works on keeps all of its files.
    """
    known = read_result(run)
    try:
        if known.get("status", "running") == "running" and not held_by_another(run.lock):
            write_result(
                run, Result(**progress_of(known) | {"step": run.saved_step()}, status="stopped", message=message)
            )
    except OSError as error:
        log.error("cannot write the stop to result.json: %s", error)
