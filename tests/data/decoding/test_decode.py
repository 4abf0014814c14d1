"""Every kind of odd image: which are read, how, and with which words the others are refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dist_train.data.decoding.decode import read_rgb
from dist_train.data.decoding.picture import BadImage
from dist_train.errors import DataError

GRADIENT = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 21


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def rgb(path: Path) -> np.ndarray[Any, Any]:
    pixels = read_rgb(path)
    assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)
    assert pixels.flags.writeable  # torch warns of arrays that are not
    return pixels.astype(int)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "HSV", "YCbCr"])
def test_usual_modes_are_as_pil_converts_them(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    plain = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).convert(mode)
    form = "png" if mode not in ("HSV", "YCbCr") else "tif"
    if mode == "HSV":
        plain = plain.convert("RGB")
    path = saved(tmp_path / f"a.{form}", plain)
    assert np.array_equal(rgb(path), np.asarray(plain.convert("RGB")))


def test_cmyk(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=95)
    assert np.abs(rgb(path) - (255, 0, 0)).max() < 8


def test_16_bit_greys_keep_their_range(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif"):
        pixels = rgb(saved(tmp_path / name, Image.fromarray(GRADIENT)))
        assert np.array_equal(pixels[:, :, 0], GRADIENT // 256), name
        assert pixels.max() > 250
        assert len(np.unique(pixels)) > 200, "PIL's own conversion cuts all above 255 off"


def test_32_bit_and_float_greys_are_stretched(tmp_path: Path) -> None:
    for dtype in (np.int32, np.float32):
        values = GRADIENT.astype(dtype) * (1000 if dtype is np.int32 else 1e-3)
        pixels = rgb(saved(tmp_path / "a.tif", Image.fromarray(values)))
        assert (pixels.min(), pixels.max()) == (0, 255)
        assert (np.diff(pixels[:, :, 0].ravel()) >= 0).all()
    empty = rgb(saved(tmp_path / "b.tif", Image.fromarray(np.full((4, 4), 7.0, dtype=np.float32))))
    assert empty.max() == 0
    with pytest.raises(BadImage, match="it has pixels that are not finite numbers"):
        read_rgb(saved(tmp_path / "c.tif", Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32))))


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        path = saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
        assert np.array_equal(rgb(path), np.broadcast_to((255, 0, 0), (8, 8, 3))), name


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 255, 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 4))  # black, but nothing of it is to be seen
    pixels = rgb(saved(tmp_path / "a.png", image))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[7, 0].tolist() == [0, 0, 255]


def test_palettes_with_alpha(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(0, (0, 0, 8, 4))
    in_bytes = saved(tmp_path / "bytes.png", image, transparency=bytes([0, 255]))
    one_colour = saved(tmp_path / "colour.gif", image, transparency=0)
    for path in (in_bytes, one_colour):
        pixels = rgb(path)
        assert pixels[0, 0].tolist() == [255, 255, 255], path
        assert pixels[7, 0].tolist() == [255, 0, 0], path


def test_an_image_is_the_way_up_that_exif_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 20), "black")
    image.paste("white", (0, 0, 30, 5))  # the top
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    turned = rgb(saved(tmp_path / "a.jpg", image, exif=exif))
    assert turned.shape == (30, 20, 3)
    assert turned[:, -3:].mean() > 240
    assert turned[:, :10].mean() < 10


@pytest.mark.parametrize("orientation", range(10))
def test_every_format_and_depth_is_turned(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    colours, greys = photo(), Image.fromarray(GRADIENT)
    for name, image in (("a.png", colours), ("a.tif", colours), ("b.png", greys), ("b.tif", greys)):
        pixels = np.asarray(image) if image is colours else (GRADIENT // 256)[:, :, None].repeat(3, axis=2)
        assert np.array_equal(rgb(saved(tmp_path / name, image, exif=exif)), upright(pixels, orientation)), name
    turned = rgb(saved(tmp_path / "a.jpg", colours, exif=exif))
    assert np.array_equal(turned, upright(rgb(saved(tmp_path / "b.jpg", colours)), orientation))


def upright(pixels: np.ndarray[Any, Any], orientation: int) -> np.ndarray[Any, Any]:
    """As Exif defines its orientations; others than 1 to 8 mean nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    across = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::down, ::across]


def test_damaged_metadata_do_not_make_an_image_bad(tmp_path: Path) -> None:
    head = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"  # two tags; the first: orientation 6
    resolution_in_letters = b"\x01\x1a\0\x07\0\0\0\x04abcd\0\0\0\0"
    for exif, shape in ((head + resolution_in_letters, (30, 20)), (b"Exif\0\0none", (20, 30)), (head[:20], (20, 30))):
        path = saved(tmp_path / "a.jpg", photo(), exif=exif)
        assert rgb(path).shape[:2] == shape


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[40:120] = bytes(80)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("cut.jpg", cut, r"cannot read the image .*cut.jpg: .*truncated"),
        ("cut.png", cut, r"cannot read the image .*cut.png: .*truncated"),
        ("garbled.png", garble, r"cannot read the image .*garbled.png: "),
        ("empty.jpg", lambda path: path.write_bytes(b""), r"cannot read the image .*empty.jpg: the file is empty"),
        ("text.jpg", lambda path: path.write_text("not found\n"), r"image .*text.jpg: cannot identify image file"),
        ("header.png", lambda path: path.write_bytes(path.read_bytes()[:20]), r"cannot read the image .*header.png: "),
    ],
)
def test_bad_images_are_refused_by_name(tmp_path: Path, name: str, damage: Any, words: str) -> None:
    rng = np.random.default_rng(0)
    path = saved(tmp_path / name, Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    read_rgb(path)
    damage(path)
    with pytest.raises(BadImage, match=words) as caught:
        read_rgb(path)
    assert "BytesIO" not in str(caught.value)


def test_any_cut_of_any_format_is_a_bad_image_or_is_read(tmp_path: Path) -> None:
    """Whatever a decoder raises on broken bytes, it reaches the user as one kind of error."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    path = tmp_path / "a"
    refused = 0
    for form in ("jpeg", "png", "gif", "bmp", "webp", "tiff", "ppm"):
        buffer = io.BytesIO()
        image.save(buffer, form)
        whole = buffer.getvalue()
        for _ in range(30):
            content = bytearray(whole[: rng.integers(1, len(whole))])
            content[rng.integers(len(content))] ^= 255
            path.write_bytes(bytes(content))
            try:
                read_rgb(path)
            except BadImage:
                refused += 1
    assert refused > 100


def test_a_file_that_cannot_be_read_is_not_a_bad_image(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.jpg", tmp_path):
        with pytest.raises(DataError, match=r"cannot read the image .*: (No such file|Is a directory)") as caught:
            read_rgb(path)
        assert not isinstance(caught.value, BadImage)
