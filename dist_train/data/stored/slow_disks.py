"""Ask a file system many questions: one after the other where it answers at once, in threads where it keeps a thread waiting.

Threads hide the latency of a network file system. Where every answer lies in memory they wait for Python's lock instead: 16 threads
take 1.3 times the CPU time of one, and no less time (benchmarks/results/scan.md).
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

THREADS = 16

BLOCK, LARGEST_BLOCK = 8, 64
"""Questions of a block where answers are slow, so that signs of life are given often; and where they are quick."""

SLOW_S = 50e-6
"""Waiting time per call from which on threads pay: twenty times what the system needs for a file that it remembers."""

SPELL = 16_384
"""Questions to threads before one thread tries again."""


def answers(ask: Callable[[Question], Answer], questions: Sequence[Question], calls: int = 1) -> Iterator[list[Answer]]:
    """Yield ``ask(question)`` of all questions, in their order, in blocks; ``ask`` may be called in other threads.

    Args:
        calls: about how many calls of the system a question takes: a busy machine interrupts a long one more often.

    Raises:
        Exception: what ``ask`` raises, when the blocks before have been yielded.
    """
    place, suspected, size = 0, False, BLOCK
    while place < len(questions):
        asked = questions[place : place + size]
        block, waited_s = (_typical_wait if suspected else _mean_wait)(ask, asked)
        place += len(block)
        yield block
        if waited_s <= SLOW_S * calls:
            suspected, size = False, min(2 * size, LARGEST_BLOCK)
        elif not suspected:
            suspected, size = True, BLOCK
        else:
            yield from _in_threads(ask, questions[place : place + SPELL])
            place += SPELL


def _mean_wait(ask: Callable[[Question], Answer], block: Sequence[Question]) -> tuple[list[Answer], float]:
    """Return the answers, and the mean number of seconds that this thread has waited for one."""
    began = _waited_s()
    found = [ask(question) for question in block]
    return found, (_waited_s() - began) / len(block)


def _typical_wait(ask: Callable[[Question], Answer], block: Sequence[Question]) -> tuple[list[Answer], float]:
    """Return the answers, and the median of the waiting times: a program that takes the core away delays few of them."""
    found, waits = [], [_waited_s()]
    for question in block:
        found.append(ask(question))
        waits.append(_waited_s())
    return found, statistics.median(after - before for before, after in pairwise(waits))


def _waited_s() -> float:
    """Return a clock that stands still while this thread computes."""
    return time.perf_counter() - time.thread_time()


def _in_threads(ask: Callable[[Question], Answer], questions: Sequence[Question]) -> Iterator[list[Answer]]:
    blocks = [questions[start : start + BLOCK] for start in range(0, len(questions), BLOCK)]
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            yield from pool.map(lambda block: [ask(question) for question in block], blocks)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
