"""Do half of a long computation in a forked process: Python's lock lets one thread compute at a time."""

import logging
import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TypeVar

from dist_train.system.machine.cores import usable_cores
from dist_train.system.processes import die_with_parent
from dist_train.system.progress import advance, passed_on
from dist_train.system.signals import ignore_stop_signals

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

PAYS_FROM, PAYS_TO = 200_000, 8_000_000
"""Images from which on, and up to which, a second process pays. Both processes write to names when they read them (Python counts
references), and the system copies this memory: 1.1 GB for 14 million names."""


def in_halves(work: Callable[[Sequence[Item]], Result], items: Sequence[Item], images: int) -> list[Result]:
    """Return ``work`` of the first and of the second half of ``items``, which a second process does at the same time.

    With one core, or with few images or very many, return ``work`` of all items. If the second process fails, this one does its half too: an error
    of ``work`` is raised here, as without a second process.

    Args:
        work: computes its result from the items alone, and changes nothing. It may call ``advance``.
        images: how many the items stand for.
    """
    daemon = multiprocessing.current_process().daemon  # it may start no process
    if not PAYS_FROM <= images <= PAYS_TO or len(items) < 2 or daemon or usable_cores() < 2:
        return [work(items)]
    middle = len(items) // 2
    first, second = items[:middle], items[middle:]
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, second, sender), daemon=True)
    try:
        try:
            process.start()
        except OSError as error:
            log.warning("cannot start a second process (%s): this one does all the work", error.strerror)
        sender.close()
        own = work(first)
        other: list[Result] = _received(receiver) if process.pid else []
        return [own, *(other or [work(second)])]
    finally:
        receiver.close()
        if process.pid:
            process.kill()
            process.join()


def _received(receiver: Connection) -> "list[Result]":
    """Count what the second process advances, and return its result in a list; an empty one if it has failed."""
    try:
        while isinstance(message := receiver.recv(), int):
            advance(message)
    except EOFError:
        log.warning("the system has ended a second process, often for lack of memory: this one does its work")
        return []
    found: list[Result] = message
    return found


def _run(work: Callable[[Sequence[Item]], Result], items: Sequence[Item], sender: Connection) -> None:
    """Do the second half, and send its progress and its result in a list; an empty one after an error of ``work``."""
    ignore_stop_signals()
    die_with_parent()
    found: list[Result] = []
    with suppress(Exception), passed_on(sender.send):  # the first process meets it too, and raises it
        found.append(work(items))
    sender.send(found)
