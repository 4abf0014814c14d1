"""Decoded images as training reads them: damaged ones are replaced, and only by the same pixels."""

import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dist_train.config import parse_config
from dist_train.data.bad_images import BadImages
from dist_train.data.decoding.picture import BadImage
from dist_train.data.index import scan
from dist_train.data.pixels import images, pixel_file
from dist_train.data.pixels.cache import open_cache
from dist_train.data.pixels.images import Cache
from dist_train.data.pixels.originals import Originals
from dist_train.distributed.group import Dist
from dist_train.errors import DataError
from tests.data.pixels.test_cache import small  # noqa: F401 - a fixture
from tests.support.runs import changed

BYTES = 12 * 10 * 3


@pytest.fixture
def cache(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Cache:  # noqa: F811
    """Of 26 images, 4 to a piece."""
    monkeypatch.setattr(pixel_file, "PIECE_BYTES", 4 * BYTES)
    images._warn_once.cache_clear()
    return fresh(small)


def fresh(tree: dict[str, Any], **keys: Any) -> Cache:
    cfg = parse_config(changed(tree, **keys)).data
    index = scan(cfg)
    cache = open_cache(cfg, index, Dist.alone(), BadImages(cfg, index).note)
    return Cache.of(cache.file, Originals(index))


def damage(cache: Cache, *places: int) -> None:
    with open(cache.file.path, "r+b") as file:
        for place in places:
            file.seek(place * BYTES + 50)
            file.write(b"\1\2\3")


def test_a_damaged_piece_is_said_once_and_replaced(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    right = [cache.originals.pixels(place) for place in range(26)]
    whole = cache.file.path.read_bytes()
    damage(cache, 5, 6, 25)
    with caplog.at_level(logging.WARNING):
        assert all(np.array_equal(cache.pixels(place), right[place]) for place in range(26))
    assert cache.file.path.read_bytes() == whole
    assert caplog.text.count("2 of its images 4 to 7 are damaged (train/a/10.png ...)") == 1
    assert caplog.text.count("1 of its images 24 to 25 are damaged") == 1
    assert cache.compared[:26].all()


def test_it_is_compared_once_for_all_processes_of_a_rank(cache: Cache) -> None:
    process = multiprocessing.get_context("fork").Process(target=cache.pixels, args=(3,))
    process.start()
    process.join()
    assert cache.compared.nonzero()[0].tolist() == [3]


def test_several_processes_that_meet_the_same_damage_say_it_once(cache: Cache, capfd: Any) -> None:
    logging.getLogger("dist_train").addHandler(handler := logging.StreamHandler())
    try:
        damage(cache, 8, 9, 10, 11)
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=cache.pixels, args=(place,)) for place in (8, 9, 10, 11)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:
        logging.getLogger("dist_train").removeHandler(handler)
    assert capfd.readouterr().err.count("are damaged") == 1
    assert not any(cache._is_damaged(place) for place in range(26))


def test_one_whose_original_has_changed_too_ends_the_run(cache: Cache) -> None:
    name = Path(cache.originals.index.root, cache.originals.name(6))
    damage(cache, 6)
    Image.new("RGB", (10, 12), "red").save(name)
    with pytest.raises(
        DataError, match=r"other pixels now than when that was built; .* is removed: start the run again"
    ):
        cache.pixels(6)
    assert not cache.file.path.exists()


def test_one_whose_original_is_gone_ends_the_run_but_keeps_the_others(cache: Cache) -> None:
    damage(cache, 6)
    Path(cache.originals.index.root, cache.originals.name(6)).unlink()
    with pytest.raises(DataError, match=r"a/12.png is damaged in .* and cannot be decoded again: "):
        cache.pixels(6)
    cache.pixels(12)
    assert cache.file.path.exists()


def test_a_cache_that_cannot_be_written_is_said_once(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_RDWR:
            raise OSError(30, "Read-only file system")
        return opens(path, flags, *rest)

    opens = os.open
    damage(cache, 5, 6)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", read_only)
        for _ in range(2):
            for place in (5, 6):
                assert np.array_equal(cache.pixels(place), cache.originals.pixels(place))
    assert caplog.text.count("is damaged and cannot be written (Read-only file system)") == 1


def test_an_image_that_was_bad_stays_bad(small: dict[str, Any]) -> None:  # noqa: F811
    path = Path(small["data"]["root"], "train/a/02.png")
    path.write_bytes(b"no image".ljust(100))
    cache = fresh(small, data__bad_images="skip", data__max_bad_share=0.2)
    place = next(place for place in range(26) if cache.originals.name(place) == "train/a/02.png")
    with pytest.raises(BadImage, match="cannot identify"):
        cache.pixels(place)
    Image.new("RGB", (10, 12), "red").save(path)
    with pytest.raises(BadImage, match=r"02.png could not be decoded when .* was built"):
        cache.pixels(place)
