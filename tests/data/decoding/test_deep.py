"""Values of more than 8 bits: every kind of file that holds them, by two decoders."""

import io
import logging
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from dist_train.data.decoding import deep
from dist_train.data.decoding.deep import DeepImage, as_0_1_0, deep_image, is_deep

RNG = np.random.default_rng(0)


def encoded(values: np.ndarray[Any, Any], suffix: str) -> bytes:
    """A file as OpenCV writes it; colours are given in RGB order."""
    if values.ndim == 3:
        values = values[:, :, [2, 1, 0, 3][: values.shape[2]]]
    done, content = cv2.imencode(suffix, values)
    assert done
    return bytes(content)


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    assert is_deep(image, content)
    image.load()
    return image


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm"])
@pytest.mark.parametrize("bits", [10, 16])
def test_colours(suffix: str, bits: int) -> None:
    values = RNG.integers(0, 2**bits, (20, 30, 3)).astype(np.uint16)
    content = encoded(values, suffix)
    found = deep_image(opened(content), content)
    assert found is not None
    assert np.array_equal(found.values, values)
    assert found.alpha is None


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
@pytest.mark.parametrize("bits", [10, 16])
def test_greys(suffix: str, bits: int) -> None:
    values = RNG.integers(0, 2**bits, (20, 30)).astype(np.uint16)
    content = encoded(values, suffix)
    found = deep_image(opened(content), content)
    assert found is not None
    assert np.array_equal(found.values, values)


def png(values: np.ndarray[Any, Any], colour_type: int, *chunks: bytes) -> bytes:
    """A PNG file of 16 bits per channel."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_transparency_does_not_widen_the_range() -> None:
    colours = RNG.integers(0, 4096, (20, 30, 4)).astype(np.uint16)
    colours[:, :, 3] = 65535
    colours[:10, :, 3] = 0
    greys = np.ascontiguousarray(colours[:, :, 2:])
    for values, content in (
        (colours, encoded(colours, ".png")),
        (colours, encoded(colours, ".tiff")),
        (greys, png(greys, 4)),
    ):
        found = deep_image(opened(content), content)
        assert found is not None
        assert found.alpha is not None
        assert np.array_equal(found.values, np.broadcast_to(values[:, :, :-1], (20, 30, 3)))
        assert np.array_equal(found.alpha, values[:, :, -1])
        image = found.in_8_bits((0, 4095))
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image)[:, :, 3], (values[:, :, -1] > 0) * 255)
        assert np.array_equal(np.asarray(image)[:, :, :3], found.values // 16)


def test_a_transparent_colour() -> None:
    values = RNG.integers(0, 4096, (20, 30, 3)).astype(np.uint16)
    content = png(values, 2, chunk(b"tRNS", struct.pack(">HHH", *values[0, 0])))
    found = deep_image(opened(content), content)
    assert found is not None
    assert found.alpha is not None
    assert found.alpha[0, 0] == 0
    assert (found.alpha.ravel()[1:] == 65535).all()


def test_a_gamma_changes_nothing() -> None:
    values = RNG.integers(0, 4096, (20, 30, 3)).astype(np.uint16)
    content = png(values, 2, chunk(b"gAMA", struct.pack(">I", 100_000)))
    found = deep_image(opened(content), content)
    assert found is not None
    assert np.array_equal(found.values, values)


def test_packed_and_inverted_greys_of_tiff() -> None:
    values = RNG.integers(0, 4096, (4, 6)).astype(np.uint16)
    plain = deep_image(opened(tiff(values.astype("<u2").tobytes(), 16, 1)))
    inverted = deep_image(opened(tiff(values.astype("<u2").tobytes(), 16, 0)))
    packed = deep_image(opened(tiff(pack_12(values), 12, 1)))
    assert plain is not None
    assert inverted is not None
    assert packed is not None
    for found in (plain, inverted, packed):
        assert np.array_equal(found.values, values)
    assert np.array_equal(np.asarray(plain.in_8_bits((0, 4095))), values // 16)
    assert np.array_equal(np.asarray(inverted.in_8_bits((0, 4095))), 255 - values // 16)


def pack_12(values: np.ndarray[Any, Any]) -> bytes:
    first, second = values.ravel()[::2].astype(int), values.ravel()[1::2].astype(int)
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8).tobytes()


def tiff(pixels: bytes, bits: int, photometric: int) -> bytes:
    """A grey TIFF file of 6 x 4 pixels; white is 0 with ``photometric`` 0."""
    tags = {256: 6, 257: 4, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 4, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = struct.pack("<2sHI", b"II", 42, 8 + len(pixels))
    return header + pixels + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm", ".bmp", ".webp", ".jpg"])
def test_8_bits_are_not_deep(suffix: str) -> None:
    content = encoded(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8), suffix)
    image = Image.open(io.BytesIO(content))
    assert not is_deep(image, content)
    assert deep_image(image, content) is None


def test_colours_that_opencv_cannot_decode() -> None:
    values = RNG.integers(0, 4096, (20, 30, 3)).astype(np.uint16)
    content = encoded(values, ".png")
    image = opened(content)
    with pytest.raises(ValueError, match="more than 8 bits per channel, and OpenCV cannot decode them"):
        deep_image(image, content[: len(content) // 2])


def test_opencv_keeps_its_level_of_logging() -> None:
    before = cv2.utils.logging.getLogLevel()
    content = encoded(RNG.integers(0, 4096, (20, 30, 3)).astype(np.uint16), ".tiff")
    deep_image(opened(content), content)
    assert cv2.utils.logging.getLogLevel() == before


def test_values_outside_are_reported_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "_warned", set())
    values = np.zeros((20, 20), dtype=np.uint16)
    values[0, :4] = 5000
    with caplog.at_level(logging.WARNING):
        DeepImage(values).in_8_bits((0, 4095))
        assert not caplog.messages, "1 % may be dead pixels"
        values[1, 0] = 5000
        for _ in range(2):
            DeepImage(values).in_8_bits((0, 4095))
    (message,) = caplog.messages
    assert "more than 1% of its values outside of [0, 4095] (12 bits)" in message
    assert "`data.value_range`" in message


def test_an_image_without_a_range_is_mapped_by_its_own_and_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep, "_warned", set())
    values = RNG.integers(0, 1024, (20, 20)).astype(np.uint16)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(np.asarray(DeepImage(values).in_8_bits(None)), values // 4)
    (message,) = caplog.messages
    assert "none was found when the run began" in message


def test_version_0_1_0() -> None:
    greys = RNG.integers(0, 4096, (20, 30)).astype(np.uint16)
    assert np.array_equal(as_0_1_0(Image.fromarray(greys)), greys // 256)
    floats = RNG.random((20, 30)).astype(np.float32)
    found = as_0_1_0(Image.fromarray(floats))
    assert (found.min(), found.max()) == (0, 255)
    with pytest.raises(ValueError, match="not finite"):
        as_0_1_0(Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)))
