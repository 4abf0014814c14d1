"""No error of a loader process is lost, and one that does not come forward says what it does."""

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from dist_train.data.loader import end_loaders, evaluation_loader, on_device
from dist_train.data.loading.sent_images import SentImages, sent_images_of
from dist_train.data.pipeline import validation_images
from dist_train.data.sampler import EvaluationBatches
from dist_train.errors import DataError
from tests.data.test_loader import CPU, NETWORK, parts
from tests.support.runs import changed
from tests.support.waits import NOTE, wait


class Known(Exception):
    """An error that another process knows."""


def loader_with(tree: dict[str, Any], transform: Any, **keys: Any) -> DataLoader[Any]:
    """Return the validation loader of one process, with a transform that spoils image 7."""
    cfg, index, bad = parts(tree, data__workers=1, **keys)
    images = validation_images(cfg, index, NETWORK, bad)
    usual = images._views[0]

    def spoilt(picture: Any, key: int, target: Any) -> None:
        usual.transform(picture, key, target)
        if images.reading[0] == 7:
            transform()

    images._views = {0: replace(usual, transform=spoilt)}
    return evaluation_loader(cfg.data, images, EvaluationBatches(len(images), cfg.eval.batch_size, 0, 1), CPU)


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    end_loaders()


def _raises_own() -> None:
    class Local(Exception):
        """Which no other process can read."""

    raise Local("of this function")


def _raises_known() -> None:
    raise Known("of this module")


def test_an_error_that_cannot_be_sent_is_told_in_words(tree: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="Local: of this function") as caught:
        list(on_device(loader_with(tree, _raises_own), CPU))
    assert "in _raises_own" in str(caught.value), "its traceback"


def test_other_errors_keep_their_class(tree: dict[str, Any]) -> None:
    with pytest.raises(Known, match="of this module"):
        list(on_device(loader_with(tree, _raises_known), CPU))


@pytest.mark.parametrize("how", [KeyError("k"), MemoryError(), OSError(24, "Too many open files"), StopIteration()])
def test_no_kind_of_error_is_lost(tree: dict[str, Any], how: BaseException) -> None:
    def raises() -> None:
        raise how

    expected = RuntimeError if isinstance(how, StopIteration) else type(how)
    with pytest.raises(expected):
        list(on_device(loader_with(tree, raises), CPU))


@pytest.mark.parametrize("how", [lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_a_process_that_ends_is_noticed(tree: dict[str, Any], how: Any) -> None:
    tree = changed(tree, data__timeout_s=10)  # torch looks for processes that have ended by themselves now and then
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid"):
        list(on_device(loader_with(tree, how), CPU))


@pytest.mark.parametrize(
    ("how", "state"), [(wait, "waits"), (lambda: os.kill(os.getpid(), signal.SIGSTOP), "is stopped")]
)
def test_a_batch_that_does_not_come_is_an_error_with_the_image(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Any, state: str
) -> None:
    monkeypatch.setenv(NOTE, str(tmp_path / "waits"))
    loader = loader_with(tree, how, data__timeout_s=3)
    name = re.escape(parts(tree)[1].val.name(7))
    with pytest.raises(DataError, match=rf"`data.timeout_s` \(3\): process 0 \(pid \d+\) {state}, at {name}"):
        list(on_device(loader, CPU))


def test_without_processes_images_are_read_here(tree: dict[str, Any]) -> None:
    cfg, index, bad = parts(tree, data__workers=0)
    images = validation_images(cfg, index, NETWORK, bad)
    loader = evaluation_loader(cfg.data, images, EvaluationBatches(len(images), 5, 0, 1), CPU)
    assert sent_images_of(loader) is None


def test_what_has_not_started_is_told(tree: dict[str, Any]) -> None:
    cfg, index, bad = parts(tree)
    sent = SentImages(validation_images(cfg, index, NETWORK, bad), workers=2, prefetch=1, batch_size=4, timeout_s=9)
    sent.begin(same_processes=True)
    assert sent.state() == "process 0 (pid 0) has not started; process 1 (pid 0) has not started"
    assert len(sent) == len(index.val)


def test_a_stop_iteration_here_is_no_end_of_the_data(tree: dict[str, Any]) -> None:
    cfg, index, bad = parts(tree, data__workers=0)
    images = validation_images(cfg, index, NETWORK, bad)

    def ends(*_: Any) -> None:
        raise StopIteration

    images._views = {0: replace(images._views[0], transform=ends)}
    loader = evaluation_loader(cfg.data, images, EvaluationBatches(len(images), 5, 0, 1), CPU)
    with pytest.raises(RuntimeError, match=f"StopIteration while an image was read: {re.escape(index.val.name(0))}"):
        list(on_device(loader, CPU))
