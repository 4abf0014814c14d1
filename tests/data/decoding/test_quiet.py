"""Pillow's settings are as before when the last thread is done, and in a forked process."""

import os
import threading
import warnings
from collections.abc import Callable

import pytest
from PIL import Image

from dist_train.data.decoding.quiet import quiet

State = tuple[object, list[object]]


def _state() -> State:
    return Image.MAX_IMAGE_PIXELS, list(warnings.filters)


@pytest.fixture
def before() -> State:
    assert Image.MAX_IMAGE_PIXELS is not None
    return _state()


def test_inside_there_is_no_limit_and_no_warning(before: State) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with quiet():
            assert Image.MAX_IMAGE_PIXELS is None
            warnings.warn("odd metadata", stacklevel=1)
        assert told == []
    assert _state() == before


def test_an_error_inside_restores_them(before: State) -> None:
    with pytest.raises(OSError, match="damaged"), quiet():
        raise OSError("damaged")
    assert _state() == before


def _thread_inside() -> tuple[threading.Thread, Callable[[], None]]:
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with quiet():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(30)
    return thread, leave.set


def test_threads_that_overlap_restore_them_whoever_leaves_first(before: State) -> None:
    first, let_first_go = _thread_inside()
    second, let_second_go = _thread_inside()
    let_first_go()
    first.join()
    assert Image.MAX_IMAGE_PIXELS is None, "the second thread is still inside"
    let_second_go()
    second.join()
    assert _state() == before


def test_a_forked_process_begins_with_them(before: State) -> None:
    thread, let_go = _thread_inside()
    child = os.fork()
    if child == 0:
        with quiet():
            inside = Image.MAX_IMAGE_PIXELS is None
        os._exit(0 if inside and _state() == before else 1)
    let_go()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
