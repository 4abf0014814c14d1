"""Building: the order of work, and what is counted on the way. ``test_cache.py`` has whole builds."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.data.bad_images import BadImages
from dist_train.data.index import scan
from dist_train.data.pixels import pixel_file
from dist_train.data.pixels.build import build, decode_pieces
from dist_train.data.pixels.originals import Originals
from dist_train.data.pixels.part_file import PartFile
from dist_train.data.pixels.pixel_file import opened
from tests.data.pixels.test_cache import small  # noqa: F401 - a fixture

Parts = tuple[PartFile, Originals, Any, str]


@pytest.fixture
def parts(small: dict[str, Any], tmp_path: Path) -> Parts:  # noqa: F811
    """What a build needs of 26 images: the file, the images, where bad ones are noted, and the first image."""
    cfg = parse_config(small).data
    index = scan(cfg)
    originals = Originals(index)
    first, layout = originals.first()
    return PartFile(tmp_path / "pixels", layout, index.fingerprint), originals, BadImages(cfg, index).note, first


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a piece have four images."""
    monkeypatch.setattr(pixel_file, "PIECE_BYTES", 4 * 360)


@pytest.mark.usefixtures("small_pieces")
def test_counts_grow_to_the_number_of_images(parts: Parts) -> None:
    part, originals, note, first = parts
    counts = list(decode_pieces(part, originals, note, first))
    assert counts == sorted(counts)
    assert counts[-1] == len(originals) == 26
    assert list(decode_pieces(part, originals, note, first)) == [26]  # all is done already


@pytest.mark.usefixtures("small_pieces")
def test_pieces_of_a_process_that_dies_are_taken_over(parts: Parts) -> None:
    part, originals, note, first = parts
    context = multiprocessing.get_context("fork")
    claimed, end = context.Event(), context.Event()

    def hold() -> None:
        part.claim(3)
        claimed.set()
        end.wait(60)

    holder = context.Process(target=hold)
    holder.start()
    assert claimed.wait(60)
    for count in decode_pieces(part, originals, note, first):
        if count == 22:  # all others
            assert not part.is_done(3)
            end.set()
    holder.join()
    assert part.is_done(3)


@pytest.mark.usefixtures("small_pieces")
def test_a_process_that_holds_a_piece_and_does_nothing_is_not_waited_for(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped, or its lock has stayed on a file server."""
    monkeypatch.setattr("dist_train.data.pixels.build.PATIENCE_S", 0.3)
    part, originals, note, first = parts
    monkeypatch.setattr(PartFile, "claim", lambda self, piece: piece != 3)
    assert list(decode_pieces(part, originals, note, first))[-1] == 26
    assert part.is_done(3)


@pytest.mark.parametrize("processes", [0, 2])
def test_the_rank_reports_what_all_have_done(
    parts: Parts, tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, originals, note, first = parts
    advanced: list[int] = []
    monkeypatch.setattr("dist_train.data.pixels.build.advance", advanced.append)
    build(part, originals, processes, note, first)
    assert sum(advanced) == 26
    part.finish()
    assert opened(tmp_path / "pixels", originals.index.fingerprint).bad() == []
