"""A part of a JPEG that is decoded alone equals that part of the whole image."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from dist_train.data.decoding import jpeg, turbojpeg
from dist_train.data.decoding.decode import open_picture, read_image
from dist_train.data.decoding.picture import BadImage, Box
from dist_train.data.decoding.turbojpeg import part_decoder
from tests.data.decoding.test_jpeg import photo

KINDS: list[dict[str, Any]] = [
    {"subsampling": 0},
    {"subsampling": 1},
    {"subsampling": 2},
    {"subsampling": 2, "optimize": True, "restart_marker_rows": 1},
    {"grey": True},
    {"colorsubsampling": "440"},
    {"colorsubsampling": "411"},
]


@pytest.fixture(autouse=True)
def _library() -> None:
    if part_decoder() is None:
        pytest.skip("needs TurboJPEG 3: `pip install turbojpeg`, or the system's")


def encoded(image: Image.Image, grey: bool = False, **options: Any) -> bytes:
    if "colorsubsampling" in options:  # which Pillow cannot write
        return bytes(simplejpeg.encode_jpeg(np.array(image), **options))
    buffer = io.BytesIO()
    (image.convert("L") if grey else image).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def random_box(rng: np.random.Generator, height: int, width: int) -> Box:
    rows, columns = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
    return int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)), rows, columns


def cut_out(image: Any, box: Box) -> Any:
    top, left, height, width = box
    return image[top : top + height, left : left + width]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_part_is_that_of_the_whole(kind: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    decode_part = part_decoder()
    assert decode_part is not None
    for quality in (10, 75, 97):
        for size in ((45, 67), (1, 1), (17, 8), (130, 3), (96, 160)):
            content = encoded(photo(*size), quality=quality, **kind)
            whole = simplejpeg.decode_jpeg(content, "RGB")
            for box in [(0, 0, *size), *(random_box(rng, *size) for _ in range(25))]:
                found = decode_part(content, box)
                assert found is not None
                assert found.flags.c_contiguous
                assert found.flags.writeable
                assert np.array_equal(found, cut_out(whole, box))


def test_progressive_files_are_decoded_whole(tmp_path: Path) -> None:
    """Without its last scans such an image is smoothed over the borders of any part."""
    decode_part = part_decoder()
    assert decode_part is not None
    content = encoded(photo(90, 90), progressive=True)
    unfinished = content[: content.rindex(b"\xff\xc4")] + b"\xff\xd9"
    path = tmp_path / "a.jpg"
    for made in (content, unfinished):
        assert decode_part(made, (20, 20, 40, 40)) is None
        path.write_bytes(made)
        whole = simplejpeg.decode_jpeg(made, "RGB")
        assert np.array_equal(open_picture(path).pixels((20, 20, 40, 40)), cut_out(whole, (20, 20, 40, 40)))


def test_a_part_outside_of_the_image_is_not_decoded() -> None:
    decode_part = part_decoder()
    assert decode_part is not None
    content = encoded(photo(20, 30))
    assert decode_part(content, (0, 0, 21, 30)) is None
    assert decode_part(content, (0, 1, 20, 30)) is None
    assert decode_part(content, (0, 0, 20, 30)) is not None


def test_a_file_decoded_in_part_is_the_one_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not there is the library, and for files that are left to Pillow too."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for content in (encoded(photo()), encoded(photo(), exif=exif), encoded(photo()) + b"\0"):
        path = tmp_path / "a.jpg"
        path.write_bytes(content)
        whole = read_image(path)
        assert open_picture(path).size == whole.shape[:2]
        for box in (random_box(rng, *whole.shape[:2]) for _ in range(5)):
            for library in (part_decoder(), None):
                monkeypatch.setattr(jpeg, "part_decoder", lambda library=library: library)
                assert np.array_equal(open_picture(path).pixels(box), cut_out(whole, box))
    path.write_bytes(encoded(photo())[:-40])  # without its end marker alone, a file may be whole to a decoder
    with pytest.raises(BadImage, match="truncated"):
        open_picture(path).pixels((0, 0, 1, 1))


def test_damage_outside_of_the_part_is_noticed(tmp_path: Path) -> None:
    """Files that are cut or changed: the same pixels as from the whole, or the same refusal, but for one in 100."""
    rng = np.random.default_rng(0)
    path = tmp_path / "a.jpg"
    wholes = [encoded(photo(60, 60), quality=80), encoded(photo(50, 70), progressive=True)]
    outcomes = {"read": 0, "refused": 0, "unnoticed": 0}
    for round_ in range(400):
        content = bytearray(wholes[round_ % 2])
        for _ in range(rng.integers(1, 3)):
            content[rng.integers(600, len(content) - 2)] ^= int(rng.integers(1, 256))
        if rng.random() < 0.3:
            del content[rng.integers(600, len(content)) :]
        path.write_bytes(content)
        results: list[Any] = []
        for box in (None, (0, 0, 5, 5)):
            try:
                pixels = open_picture(path).pixels(box)
                results.append(cut_out(pixels, (0, 0, 5, 5)).tolist())
            except BadImage as error:
                results.append(str(error))
        if results[0] == results[1]:
            outcomes["refused" if isinstance(results[0], str) else "read"] += 1
        else:
            assert isinstance(results[0], str)
            outcomes["unnoticed"] += 1
    assert outcomes["read"] > 50
    assert outcomes["refused"] > 50
    assert outcomes["unnoticed"] <= 4


def test_a_library_that_cannot_decode_parts_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    part_decoder.cache_clear()
    monkeypatch.setattr(turbojpeg, "SYSTEM_LIBRARY", "libc.so.6")  # is there, and has no such functions
    if turbojpeg._in_package():
        assert part_decoder() is not None
    part_decoder.cache_clear()
    monkeypatch.setattr(turbojpeg, "_in_package", list)
    assert part_decoder() is None
    monkeypatch.setattr(turbojpeg, "SYSTEM_LIBRARY", "libnosuch.so.0")
    part_decoder.cache_clear()
    assert part_decoder() is None
    part_decoder.cache_clear()
