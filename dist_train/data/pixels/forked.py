"""Run work in forked processes, which send their progress and their errors to this one."""

import multiprocessing
import time
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess

from dist_train.errors import DataError, DistTrainError
from dist_train.system.processes import die_with_parent
from dist_train.system.signals import ignore_stop_signals

REPORT_EVERY_S = 1.0

Count = int | DistTrainError | None
"""What a process reports: how much is done, an error, or that it has ended."""


def in_processes(work: Callable[[], Generator[int]], processes: int) -> Generator[int]:
    """Run ``work`` in ``processes`` forked processes, and yield what it yields: of each process about once a second.

    With 0 processes, run it in this one. Closing the iterator ends the processes.

    Raises:
        DistTrainError: the first that ``work`` raises; the processes cannot start; or one was killed.
    """
    if not processes:
        yield from work()
        return
    running: dict[Connection, ForkProcess] = {}
    made: list[ForkProcess] = []
    try:
        for _ in range(processes):
            running |= _started(work, processes, made)
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                count = _received(connection, running)
                if isinstance(count, int):
                    yield count
    finally:
        for process in made:
            if process.pid is not None:
                process.kill()
                process.join()


def _started(
    work: Callable[[], Generator[int]], processes: int, made: list[ForkProcess]
) -> dict[Connection, ForkProcess]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, sender), daemon=True)
    made.append(process)  # before its start, which a stop signal may interrupt
    try:
        process.start()
    except OSError as error:
        raise DataError(
            f"cannot start {processes} processes that decode images: {error.strerror}; raise the limit of processes (ulimit -u), or "
            "lower `data.workers`"
        ) from None
    sender.close()
    return {receiver: process}


def _received(connection: Connection, running: dict[Connection, ForkProcess]) -> int | None:
    """Return the next count of a process; None if it has ended well, which takes it from ``running``."""
    try:
        count: Count = connection.recv()
    except EOFError:
        process = running[connection]
        process.join()
        raise DataError(
            f"a process that decodes images ended with exit code {process.exitcode} (-9: killed, often for lack of memory); "
            "lower `data.workers`"
        ) from None
    if isinstance(count, DistTrainError):
        raise count
    if count is None:
        running.pop(connection)
        connection.close()
    return count


def _run(work: Callable[[], Generator[int]], sender: Connection) -> None:
    """Do the work in the forked process."""
    ignore_stop_signals()
    die_with_parent()
    last: Count = None
    try:
        said = time.monotonic()
        for count in work():
            last = count
            if time.monotonic() - said > REPORT_EVERY_S:
                said = time.monotonic()
                sender.send(count)
        sender.send(last)
        sender.send(None)
    except DistTrainError as error:
        sender.send(error)
