"""The unfinished file: claims of several processes, and what is done."""

import errno
import fcntl
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.data.pixels import pixel_file
from dist_train.data.pixels.part_file import PartFile, bytes_written, part_of
from dist_train.data.pixels.pixel_file import BAD, Layout, opened
from dist_train.errors import ConfigError

IMAGE = np.full((2, 2, 3), 7, dtype=np.uint8)


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Of 5 images, two to a piece."""
    monkeypatch.setattr(pixel_file, "PIECE_BYTES", 24)
    return Layout((5, 2, 2, 3))


def fill(part: PartFile, piece: int) -> None:
    part.finish_piece(piece, [part.write(place, IMAGE) for place in part.layout.places(piece)])


def elsewhere(work: Any) -> Any:
    """Return what ``work`` returns in another process."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=lambda: answers.put(work()))
    process.start()
    answer = answers.get()
    process.join()
    return answer


def test_a_piece_is_claimed_once_until_its_process_ends(tmp_path: Path, layout: Layout) -> None:
    part = PartFile(tmp_path / "pixels", layout, "data")
    assert elsewhere(lambda: part.claim(1))  # and that process has ended
    assert part.claim(1)
    assert not elsewhere(lambda: part.claim(1))
    assert elsewhere(lambda: part.claim(2))
    fill(part, 1)
    part.release(1)
    assert part.is_done(1)
    assert not elsewhere(lambda: part.claim(1))


def test_it_takes_its_name_when_all_is_there(tmp_path: Path, layout: Layout) -> None:
    path = tmp_path / "pixels"
    part, another = PartFile(path, layout, "data"), PartFile(path, layout, "data")
    for piece in (0, 2):
        fill(part, piece)
    another.finish_piece(1, [another.write(2, IMAGE), BAD])
    assert all(another.is_done(piece) for piece in range(3))
    assert bytes_written(path, layout, "data") > 0
    part.finish()
    another.finish()  # of another run, which waited for the last piece
    file = opened(path, "data")
    assert file.bad() == [3]
    assert np.array_equal(file.pixels(4), IMAGE)
    assert os.listdir(tmp_path) == ["pixels"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert bytes_written(path, layout, "data") == 0


def test_a_late_one_does_not_replace_a_finished_cache(tmp_path: Path, layout: Layout) -> None:
    path = tmp_path / "pixels"
    part = PartFile(path, layout, "data")
    for piece in range(3):
        fill(part, piece)
    late = PartFile(path, layout, "data")
    part.finish()
    new = PartFile(path, layout, "data")
    late.finish()
    assert not new.is_done(0)
    assert opened(path, "data").bad() == []


def test_one_that_others_can_change_is_replaced(tmp_path: Path, layout: Layout) -> None:
    path = tmp_path / "pixels"
    fill(PartFile(path, layout, "data"), 0)
    assert PartFile(path, layout, "data").is_done(0)
    part_of(path, layout, "data").chmod(0o666)
    again = PartFile(path, layout, "data")
    assert not again.is_done(0)
    assert part_of(path, layout, "data").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_one_of_another_user_is_refused(tmp_path: Path, layout: Layout) -> None:
    path = tmp_path / "pixels"
    PartFile(path, layout, "data")
    os.chown(part_of(path, layout, "data"), 54321, 54321)
    with pytest.raises(ConfigError, match="belongs to another user"):
        PartFile(path, layout, "data")


def test_without_locks_everybody_works(tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that has none."""

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none)
    path = tmp_path / "pixels"
    one, two = PartFile(path, layout, "data"), PartFile(path, layout, "data")
    assert one.claim(0)
    assert two.claim(0)
    for part in (one, two):
        for piece in range(3):
            fill(part, piece)
            part.release(piece)
    one.finish()
    two.finish()
    assert np.array_equal(opened(path, "data").pixels(0), IMAGE)


def test_one_that_was_cut_is_an_error_of_the_config(tmp_path: Path, layout: Layout) -> None:
    part = PartFile(tmp_path / "pixels", layout, "data")
    os.truncate(part_of(tmp_path / "pixels", layout, "data"), 0)
    with pytest.raises(ConfigError, match=r"`data.cache`: .*part cannot be read: it was cut"):
        part.is_done(0)
