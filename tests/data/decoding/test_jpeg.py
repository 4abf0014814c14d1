"""The fast JPEG decoder gives Pillow's pixels, and leaves unusual files to Pillow."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dist_train.data.decoding.decode import _decoded, read_image
from dist_train.data.decoding.jpeg import decode, size_if_plain
from dist_train.data.decoding.picture import BadImage
from dist_train.data.decoding.rules import DEFAULT_RULES

RNG = np.random.default_rng(0)


def photo(height: int = 45, width: int = 67) -> Image.Image:
    """Waves of colour with noise on them: smooth areas, edges and detail."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(x / a) * np.cos(y / b) for a, b in ((5, 9), (11, 4), (23, 17))]
    return Image.fromarray((np.stack(waves, -1) + RNG.normal(0, 15, (height, width, 3))).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def fast(content: bytes) -> Any:
    """Pixels, if the fast decoder takes the file."""
    return None if size_if_plain(content) is None else decode(content)


def by_pillow(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [5, 75, 96])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "restart_marker_rows": 1}])
def test_the_pixels_are_pillows(subsampling: int, quality: int, options: dict[str, Any]) -> None:
    for size in ((64, 64), (45, 67), (1, 1), (8, 17), (3, 200)):
        content = jpeg(photo(*size), quality=quality, subsampling=subsampling, **options)
        found = fast(content)
        assert found is not None
        assert size_if_plain(content) == size
        assert np.array_equal(found, by_pillow(content))


def test_greys_become_three_equal_channels() -> None:
    content = jpeg(photo().convert("L"))
    found = fast(content)
    assert found is not None
    assert np.array_equal(found, by_pillow(content))


def test_metadata_do_not_hinder_but_an_orientation_does() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    plain = jpeg(photo(), exif=exif, comment=b"a comment", icc_profile=b"\0" * 200)
    assert fast(plain) is not None
    exif[0x0112] = 1
    assert fast(jpeg(photo(), exif=exif)) is not None
    exif[0x0112] = 6
    assert fast(jpeg(photo(), exif=exif)) is None
    turned = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="8"/></x:xmpmeta>'
    assert fast(jpeg(photo(), xmp=turned)) is None


def test_what_is_left_to_pillow() -> None:
    whole = jpeg(photo())
    png = io.BytesIO()
    photo().save(png, "PNG")
    several = io.BytesIO()
    photo().save(several, "MPO", save_all=True, append_images=[photo()])
    for content in (jpeg(photo().convert("CMYK")), whole[:-40], whole[:30], b"\xff\xd8\xff", png.getvalue()):
        assert fast(content) is None
    assert fast(several.getvalue()) is None


def test_damaged_files_are_read_or_refused_as_pillow_does_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    outcomes = {"read": 0, "refused": 0, "fast": 0}
    wholes = [jpeg(photo(), quality=80), jpeg(photo(), progressive=True), jpeg(photo(16, 16).convert("L"))]
    for round_ in range(400):
        content = bytearray(wholes[round_ % 3])
        for _ in range(RNG.integers(1, 4)):
            content[RNG.integers(2, len(content))] = RNG.integers(256)
        if RNG.random() < 0.3:
            del content[RNG.integers(20, len(content)) :]
        path.write_bytes(content)
        results: list[Any] = []
        for read in (read_image, lambda path: _decoded(path, path.read_bytes(), DEFAULT_RULES)):
            try:
                results.append(read(path).tolist())
            except BadImage as error:
                results.append(str(error))
        assert results[0] == results[1]
        outcomes["refused" if isinstance(results[0], str) else "read"] += 1
        outcomes["fast"] += fast(bytes(content)) is not None
    assert min(outcomes.values()) > 40, outcomes
