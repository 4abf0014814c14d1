"""Questions are asked in threads where answers are slow, and in one thread where they are quick."""

import threading
import time
from collections.abc import Callable

import pytest

from dist_train.data.stored import slow_disks
from dist_train.data.stored.slow_disks import BLOCK, THREADS, answers


def _threads_and_answers(wait: Callable[[], object], count: int) -> tuple[set[int], list[int]]:
    threads = set()

    def ask(question: int) -> int:
        threads.add(threading.get_ident())
        wait()
        return -question

    return threads, [answer for block in answers(ask, range(count)) for answer in block]


def test_quick_answers_come_from_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_disks, "SLOW_S", 1)  # whatever else runs here
    threads, found = _threads_and_answers(lambda: None, 5000)
    assert found == [-number for number in range(5000)]
    assert threads == {threading.get_ident()}


def test_slow_answers_come_from_other_threads_in_order() -> None:
    threads, found = _threads_and_answers(lambda: time.sleep(0.002), 200)
    assert found == [-number for number in range(200)]
    assert len(threads) > 1


def test_all_threads_wait_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_disks, "SLOW_S", -1)
    monkeypatch.setattr(slow_disks, "SPELL", THREADS * BLOCK)
    together, alone = threading.Barrier(THREADS), threading.get_ident()

    def wait() -> None:
        if threading.get_ident() != alone:
            together.wait(timeout=100)  # for the questions of all other threads

    first, again = 2 * BLOCK, BLOCK
    count = first + THREADS * BLOCK + again + THREADS * BLOCK
    threads, found = _threads_and_answers(wait, count)
    assert found == [-number for number in range(count)]
    assert len(threads) > THREADS


def test_no_questions() -> None:
    assert [*answers(str, [])] == []


@pytest.mark.parametrize("place", [0, 2 * BLOCK + 3])
def test_the_first_error_is_raised_after_the_answers_before_it(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_disks, "SLOW_S", -1)
    asked = []

    def ask(question: int) -> int:
        asked.append(question)
        if question >= place:
            raise ValueError(str(question))
        return question

    found = []
    with pytest.raises(ValueError, match=f"^{place}$"):
        for block in answers(ask, range(100_000)):
            found += block
    assert found == [*range(place - place % BLOCK)]
    assert len(asked) < 50_000, "the others are not asked"


def test_a_caller_may_stop_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_disks, "SLOW_S", -1)
    before = {*threading.enumerate()}
    for found in answers(str, range(100_000)):
        if "100" in found:
            break
    assert {*threading.enumerate()} <= before
