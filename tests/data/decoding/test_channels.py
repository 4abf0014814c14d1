"""Images of 1, 4 and N channels, and of 16 bits: which files hold them, exactly which values, and what is refused."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from dist_train.config import parse_config
from dist_train.data.augment.frame import Frame
from dist_train.data.augment.on_cpu import framed
from dist_train.data.decoding.decode import from_array, open_picture, read_image, stored_values
from dist_train.data.decoding.picture import BadImage
from dist_train.data.decoding.rules import DecodeRules
from dist_train.errors import ConfigError, DataError
from tests.support.runs import changed

RNG = np.random.default_rng(0)
FOUR = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (20, 30, 4), dtype=np.uint16)
WHOLE = (0.0, 65535.0)


def rules(channels: int, bits: int = 8, **more: Any) -> DecodeRules:
    return DecodeRules(channels=channels, bits=bits, **more)


def saved(path: Path, image: Any, **options: Any) -> Path:
    if path.suffix == ".npy":
        np.save(path, image, **options)
    elif image.dtype == np.uint16 and image.ndim == 3:
        cv2.imwrite(str(path), image[:, :, [2, 1, 0, 3][: image.shape[2]]])
    else:
        Image.fromarray(image).save(path, **options)
    return path


def read(path: Path, wanted: DecodeRules) -> np.ndarray[Any, Any]:
    found = read_image(path, wanted)
    assert found.flags.writeable
    assert found.flags.c_contiguous
    assert (found.dtype, found.shape[2]) == (np.uint8 if wanted.bits == 8 else np.uint16, wanted.channels)
    assert open_picture(path, wanted).size == found.shape[:2]
    return found


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_grey_is_pillows(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, FOUR[:, :, :3])
    expected = np.asarray(Image.open(path).convert("L"))
    assert np.array_equal(read(path, rules(1))[:, :, 0], expected)
    path = saved(tmp_path / f"grey{name}", FOUR[:, :, 0])
    assert np.array_equal(read(path, rules(1))[:, :, 0], np.asarray(Image.open(path)))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_transparency_is_a_fourth_channel(tmp_path: Path, name: str) -> None:
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    path = saved(tmp_path / name, FOUR, **options)
    assert np.array_equal(read(path, rules(4)), FOUR)
    white = Image.alpha_composite(Image.new("RGBA", (30, 20), "white"), Image.fromarray(FOUR))
    assert np.abs(read(path, rules(1))[:, :, 0].astype(int) - np.asarray(white.convert("L"))).max() <= 1
    deep = read(path, rules(3, 16)).astype(int)
    assert np.abs(deep - 257 * np.asarray(white.convert("RGB")).astype(int)).max() <= 257


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(FOUR).save(path, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(path))
    assert np.array_equal(read(path, rules(4)), np.asarray(upright))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
def test_16_bits_keep_every_level(tmp_path: Path, name: str, channels: int) -> None:
    values = DEEP[:, :, :channels] if channels > 1 else DEEP[:, :, 0]
    path = saved(tmp_path / name, values)
    assert np.array_equal(read(path, rules(channels, 16, value_range=WHOLE)).squeeze(), values)
    high = read(path, rules(channels, value_range=WHOLE)).squeeze()
    assert np.array_equal(high, values >> 8)


def test_fewer_bits_and_floats_fill_the_range(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", (DEEP >> 4)[:, :, :2])
    found = read(path, rules(2, 16, value_range=(0, 4095)))
    assert np.array_equal(found, np.rint((DEEP >> 4)[:, :, :2] * (65535 / 4095)))
    path = saved(tmp_path / "b.npy", np.array([[[0.0], [0.5], [1.0], [2.0]]], dtype=np.float32))
    assert read(path, rules(1, 16, value_range=(0, 1))).ravel().tolist() == [0, 32768, 65535, 65535]
    path = saved(tmp_path / "c.png", FOUR[:, :, :3])
    assert np.array_equal(read(path, rules(3, 16)), FOUR[:, :, :3] * np.uint16(257))


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 13])
def test_arrays_hold_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    values = RNG.integers(0, 256, (6, 5, channels), dtype=np.uint8)
    assert np.array_equal(read(saved(tmp_path / "a.npy", values), rules(channels)), values)
    given = from_array("a", values, rules(channels))
    assert np.array_equal(given, values)
    assert not np.shares_memory(given, values)
    assert stored_values(tmp_path / "a.npy", rules(channels)) is None
    deep = stored_values(saved(tmp_path / "b.npy", values.astype(np.int32) - 300), rules(channels))
    assert deep is not None
    assert deep.values.min() < 0


def test_an_array_of_colours_needs_no_key(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", FOUR[:, :, :3])
    assert np.array_equal(read_image(path), FOUR[:, :, :3])


@pytest.mark.parametrize(
    ("name", "image", "channels", "words"),
    [
        ("a.png", FOUR[:, :, :3], 4, r"3 channel\(s\), and `data.channels` is 4; it has no transparency"),
        ("a.png", FOUR[:, :, 0], 4, r"it has 1 channel\(s\), and `data.channels` is 4$"),
        ("a.png", FOUR, 5, r"it has 4 channel\(s\), and `data.channels` is 5"),
        ("a.npy", FOUR, 3, r"a.npy is a ndarray uint8 \[20, 30, 4\]; it must be .*mode RGBA"),
        ("a.npy", FOUR, 5, r"it must be a PIL image, or an array \[H, W, 5\] .*; `data.channels` is 5"),
        ("a.npy", FOUR[:, :, :3], 1, r"an array \[H, W\] or \[H, W, 1\] .*; `data.channels` is 1"),
        ("a.npy", np.full((2, 2), np.nan), 1, "4 of its 4 values are NaN or infinite"),
    ],
)
def test_nothing_is_invented(tmp_path: Path, name: str, image: Any, channels: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_image(saved(tmp_path / name, image), rules(channels))


def test_four_inks_are_not_transparency(tmp_path: Path) -> None:
    Image.new("CMYK", (9, 9)).save(tmp_path / "a.jpg")
    with pytest.raises(BadImage, match="its four channels are cyan, magenta, yellow and black"):
        read_image(tmp_path / "a.jpg", rules(4))


def test_arrays_that_are_damaged_or_no_arrays(tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.save(whole, FOUR)
    path = tmp_path / "a.npy"
    for content in (whole.getvalue()[:-1], whole.getvalue()[:40], whole.getvalue()[:7]):
        path.write_bytes(content)
        with pytest.raises(BadImage, match=r"cannot read the image .*a.npy"):
            read_image(path, rules(4))
        assert stored_values(path, rules(4)) is None
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(BadImage, match="Object arrays cannot be loaded"):
        read_image(path, rules(4))
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (9999999, 9999999, 4), }"
    path.write_bytes(header.ljust(127) + b"\n")
    with pytest.raises(BadImage, match=r"more than `data\.max_pixels`"):
        read_image(path, rules(4))


@pytest.mark.parametrize("mode", ["center", "squash", "pad"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_channels_are_framed(mode: Any, channels: int) -> None:
    """As each channel alone, up to rounding; 16 bits as 8 bits with finer steps."""
    image = RNG.integers(60, 190, (30, 41, channels), dtype=np.uint8)  # bicubic weights of 8 bits clip in between
    frame = Frame(mode, (16, 24), (18, 27), (9,) * channels)
    found = framed(image, frame)
    for channel in range(channels):
        alone = framed(
            np.repeat(image[:, :, channel : channel + 1], 3, axis=2), Frame(mode, (16, 24), (18, 27), (9, 9, 9))
        )
        assert np.abs(found[:, :, channel].astype(int) - alone[:, :, 0]).max() <= 1
    fine = framed(image * np.uint16(257), Frame(mode, (16, 24), (18, 27), (9 * 257,) * channels))
    assert fine.dtype == np.uint16
    assert np.abs(fine / 257 - found).max() <= 2


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"data__channels": 4, "augment__randaugment": {}}, r"`augment.ops.0` \(randaugment\) works on RGB images of 8 bits only, and `data.channels` is 4"),
        ({"data__bits": 16, "augment__device": True}, r"`augment.device` works on RGB .* `data.bits` is 16"),
        ({"data__channels": 2, "data__mean": [0.5] * 3}, r"`data.mean` \(\[0.5, 0.5, 0.5\]\) must have one number for each of `data.channels` \(2\)"),
        ({"data__std": [0.5]}, r"`data.std` \(\[0.5\]\) must have one number for each of `data.channels` \(3\)"),
        ({"data__bits": 12}, r"`data.bits`"),
    ],
)  # fmt: skip
def test_what_knows_rgb_only_is_refused(tree: dict[str, Any], keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(changed(tree, **keys))
