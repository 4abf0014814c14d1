"""The file of decoded images: what is opened, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from dist_train.data.pixels.pixel_file import (
    BAD,
    PIECE_BYTES,
    Layout,
    PixelFile,
    Unusable,
    digest_of,
    end_of_file,
    opened,
)
from dist_train.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
LAYOUT = Layout((6, 4, 5, 3))
DIGESTS = np.array([np.frombuffer(digest_of(image), np.uint8) for image in PIXELS])


def written(path: Path, end: bytes | None = None) -> Path:
    path.write_bytes(PIXELS.tobytes() + DIGESTS.tobytes() + (end or end_of_file(LAYOUT, "data", DIGESTS)))
    path.chmod(0o600)
    return path


def refused(path: Path, fingerprint: str = "data") -> str:
    with pytest.raises(Unusable) as error:
        opened(path, fingerprint)
    return str(error.value)


def test_it_returns_what_was_written(tmp_path: Path) -> None:
    file = opened(written(tmp_path / "pixels"), "data")
    assert (file.layout, file.bad()) == (LAYOUT, [])
    assert np.array_equal(file.pixels(3), PIXELS[3])
    assert file.is_right(3, PIXELS[3])
    assert not file.is_right(3, PIXELS[4])


def test_images_that_could_not_be_decoded_are_known_by_their_digest(tmp_path: Path) -> None:
    digests = DIGESTS.copy()
    digests[[1, 4]] = np.frombuffer(BAD, np.uint8)
    path = tmp_path / "pixels"
    path.touch(0o600)
    path.write_bytes(PIXELS.tobytes() + digests.tobytes() + end_of_file(LAYOUT, "data", digests))
    file = opened(path, "data")
    assert file.bad() == [1, 4]
    assert [file.is_bad(place) for place in range(3)] == [False, True, False]


def test_other_data_damage_and_older_formats_are_told_apart(tmp_path: Path) -> None:
    path = written(tmp_path / "pixels")
    assert refused(path, "other data") == "has another version of the data set"
    long = (2**63).to_bytes(8)
    for end in (b"x", b"[]" + (2).to_bytes(8), b"{}" + (2).to_bytes(8), long, b"[" * 9999 + (9999).to_bytes(8)):
        assert refused(written(path, end)) == "is damaged"
    assert refused(written(path, end_of_file(Layout((7, 4, 5, 3)), "data", DIGESTS))) == "is damaged"
    for shape in (b"[]", b'[1, 2, "x", 3]', b"null", b"[6, 4, 5]"):
        text = b'{"format": 2, "fingerprint": "data", "digest": "", "shape": ' + shape + b"}"
        assert refused(written(path, text + len(text).to_bytes(8))) == "is damaged"
    text = b'{"format": 1, "fingerprint": "data"}'
    assert "older version" in refused(written(path, text + len(text).to_bytes(8)))


def test_every_damaged_digest_is_noticed_when_it_is_opened(tmp_path: Path) -> None:
    whole = bytearray(written(tmp_path / "pixels").read_bytes())
    for place in range(LAYOUT.digests_at, LAYOUT.end_at, 16):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (tmp_path / "pixels").write_bytes(bytes(damaged))
        assert refused(tmp_path / "pixels") == "is damaged"


def test_no_regular_file_and_one_that_others_can_change_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "pixels")
    path.chmod(0o666)
    (tmp_path / "link").symlink_to(written(tmp_path / "other"))
    for name in ("pixels", "link", "missing"):
        assert refused(tmp_path / name) == "is not a regular file, or other users can change it,"


def test_a_file_that_is_cut_while_it_is_read_is_an_error_not_a_signal(tmp_path: Path) -> None:
    path = written(tmp_path / "pixels")
    file: PixelFile = opened(path, "data")
    with open(path, "r+b") as open_file:
        open_file.truncate(PIXELS[0].nbytes + 1)
    assert np.array_equal(file.pixels(0), PIXELS[0])
    with pytest.raises(DataError, match="pixels cannot be read: it was cut while this run uses it"):
        file.pixels(1)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 3), (1000, 8, 8, 3), (1000, 200, 200, 3), (3, 3000, 3000, 3), (139, 200, 200, 3)]
)
def test_pieces_cover_every_image_once(shape: tuple[int, int, int, int]) -> None:
    layout = Layout(shape)
    assert [place for piece in range(layout.pieces) for place in layout.places(piece)] == list(range(shape[0]))
    assert all(layout.piece_of(place) == piece for piece in range(layout.pieces) for place in layout.places(piece))
    for some in (range(layout.pieces), range(layout.pieces - 1), range(1, layout.pieces), []):
        assert layout.images_in(some) == sum(len(layout.places(piece)) for piece in some)
    assert len(layout.places(0)) * layout.image_bytes <= max(PIECE_BYTES, layout.image_bytes)
