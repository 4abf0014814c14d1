"""The file of decoded images under faults: cut, foreign, with a wrong end."""

from pathlib import Path

import numpy as np
import pytest

from dist_train.data.decoding.picture import BadImage
from dist_train.data.decoding.pixel_file import BLOCK, Cache, end_of_file, opened
from dist_train.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)


def written(path: Path, end: bytes | None = None) -> Path:
    path.write_bytes(PIXELS.tobytes() + (end or end_of_file(PIXELS.shape, "data", "digest", {4: "no image"})))
    path.chmod(0o600)
    return path


def opened_surely(path: Path) -> Cache:
    cache = opened(path, "data", train=4)
    assert cache is not None
    return cache


def test_it_returns_what_was_written(tmp_path: Path) -> None:
    cache = opened_surely(written(tmp_path / "pixels"))
    assert (cache.shape, cache.size, cache.sha256) == (PIXELS.shape, (4, 5), "digest")
    assert np.array_equal(cache.reader("train")(3).pixels(), PIXELS[3])
    assert np.array_equal(cache.reader("val")(1).pixels(), PIXELS[5])
    with pytest.raises(BadImage, match="no image"):
        cache.reader("val")(0)


def test_other_data_and_a_wrong_end_are_not_opened(tmp_path: Path) -> None:
    assert opened(written(tmp_path / "pixels"), "other data", 4) is None
    long = (2**63).to_bytes(8)
    for end in (b"x", b"[]" + (2).to_bytes(8), b"{}" + (2).to_bytes(8), long, b"[" * 9999 + (9999).to_bytes(8)):
        assert opened(written(tmp_path / "pixels", end), "data", 4) is None
    assert opened(written(tmp_path / "pixels", end_of_file((7, 4, 5, 3), "data", "digest", {})), "data", 4) is None


def test_a_file_that_is_cut_while_it_is_read_is_an_error_not_a_signal(tmp_path: Path) -> None:
    path = written(tmp_path / "pixels")
    cache = opened_surely(path)
    with open(path, "r+b") as file:
        file.truncate(PIXELS[0].nbytes + 1)
    assert np.array_equal(cache.pixels(0), PIXELS[0])
    with pytest.raises(DataError, match="pixels cannot be read: it was cut while this run uses it"):
        cache.pixels(1)


def test_the_digest_is_of_all_pixels_also_beyond_one_block(tmp_path: Path) -> None:
    import hashlib

    pixels = np.arange(BLOCK + 3, dtype=np.uint8).reshape(1, 1, -1)
    (tmp_path / "large").touch(mode=0o600)
    (tmp_path / "large").write_bytes(pixels.tobytes() + end_of_file((1, 1, BLOCK + 3), "data", "", {}))
    cache = opened(tmp_path / "large", "data", 1)
    assert cache is not None
    assert cache.digest() == hashlib.sha256(pixels.tobytes()).hexdigest()
