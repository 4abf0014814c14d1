"""Every kind of odd image: which are read, how, and with which words the others are refused."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from dist_train.data.decoding.decode import left_out, read_image, stored_values, to_rgb
from dist_train.data.decoding.picture import BadImage
from dist_train.data.decoding.rules import DEFAULT_RULES, DecodeRules
from dist_train.errors import DataError
from tests.data.decoding.test_deep import chunk, encoded

SRGB, LAB = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
GRADIENT = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 21


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def rgb(path: Path) -> np.ndarray[Any, Any]:
    pixels = read_image(path)
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


def test_32_bit_and_float_greys_without_a_range_are_stretched(tmp_path: Path) -> None:
    for dtype in (np.int32, np.float32):
        values = GRADIENT.astype(dtype) * 1000
        pixels = rgb(saved(tmp_path / "a.tif", Image.fromarray(values)))
        assert (pixels.min(), pixels.max()) == (0, 255)
        assert (np.diff(pixels[:, :, 0].ravel()) >= 0).all()
    even = rgb(saved(tmp_path / "b.tif", Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32))))
    assert (even == 128).all()


@pytest.mark.parametrize("rules", [DEFAULT_RULES, DecodeRules((0, 1)), DecodeRules(as_0_1_0=True)])
def test_floats_that_are_no_numbers_are_bad_images(tmp_path: Path, rules: DecodeRules) -> None:
    values = np.full((4, 4), np.nan, dtype=np.float32)
    with pytest.raises(
        BadImage, match=r"c\.tif: (16 of its 16 values are NaN or infinite|it has pixels .* not finite)"
    ):
        read_image(saved(tmp_path / "c.tif", Image.fromarray(values)), rules)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_deep_colours_by_the_range_of_the_set(tmp_path: Path, name: str, bits: int) -> None:
    values = (np.random.default_rng(0).random((20, 30, 3)) * 2**bits).astype(np.uint16)
    path = tmp_path / name
    path.write_bytes(encoded(values, path.suffix))
    stored = stored_values(path, DEFAULT_RULES)
    assert stored is not None
    assert np.array_equal(stored.values, values)
    assert np.array_equal(read_image(path, DecodeRules((0, 2**bits - 1))), values >> (bits - 8))
    dark = read_image(path, DecodeRules(as_0_1_0=True)).astype(int)
    assert np.abs(dark - values / 257).max() <= 1, "Pillow's upper 8 bits"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_deep_colours_are_turned(tmp_path: Path, name: str, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (20, 30, 3)).astype(np.uint16)
    path = tmp_path / name
    path.write_bytes(with_orientation(encoded(values, path.suffix), orientation))
    expected = upright(values >> 4, orientation)
    assert np.array_equal(read_image(path, DecodeRules((0, 4095))), expected)
    assert np.array_equal(read_image(path, DecodeRules(as_0_1_0=True)), upright(values >> 8, orientation))


def with_orientation(content: bytes, orientation: int) -> bytes:
    """A PNG file with an eXIf chunk; or a TIFF file with one tag more, in a directory at its end."""
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    if content.startswith(b"\x89PNG"):
        exif = b"II*\0" + struct.pack("<IH", 8, 1) + tag + bytes(4)
        return content[:33] + chunk(b"eXIf", exif) + content[33:]
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    entries = [content[start + 2 + 12 * place :][:12] for place in range(count)]
    entries = sorted([*entries, tag], key=lambda entry: struct.unpack_from("<H", entry))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return content[:4] + struct.pack("<I", len(content)) + content[8:] + directory


def test_transparent_deep_colours_lie_on_white(tmp_path: Path) -> None:
    values = np.full((4, 4, 4), 4095, dtype=np.uint16)
    values[:, :, :3] = (4095, 0, 0)
    values[:2, :, 3] = 0
    path = tmp_path / "a.png"
    path.write_bytes(encoded(values, ".png"))
    pixels = read_image(path, DecodeRules((0, 4095)))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[3, 0].tolist() == [255, 0, 0]


def test_lab_is_converted_by_its_meaning(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), (200, 60, 30))
    path = saved(tmp_path / "a.tif", ImageCms.profileToProfile(image, SRGB, LAB, outputMode="LAB"))  # type: ignore[arg-type]
    assert np.abs(rgb(path) - (200, 60, 30)).max() < 8


def test_cmyk_of_every_format(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.tif"):
        for ink, colour in (((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0)), ((0, 0, 0, 0), (255,) * 3)):
            path = saved(tmp_path / name, Image.new("CMYK", (16, 16), ink), quality=95)
            assert np.abs(rgb(path) - colour).max() < 8, name


def test_few_bits(tmp_path: Path) -> None:
    """One bit is black or white; 2 and 4 bits go from black to white as well."""
    rng = np.random.default_rng(0)
    bits = rng.random((20, 30)) < 0.5
    for name in ("a.png", "a.tif", "a.bmp"):
        assert np.array_equal(rgb(saved(tmp_path / name, Image.fromarray(bits))), bits[:, :, None] * np.full(3, 255))
    for depth in (2, 4):
        values = np.arange(2**depth)[None].repeat(4, axis=0)
        path = tmp_path / "b.png"
        path.write_bytes(grey_png(values, depth))
        assert np.array_equal(rgb(path)[:, :, 0], values * 255 // (2**depth - 1))


def grey_png(values: np.ndarray[Any, Any], depth: int) -> bytes:
    every_bit = (values[..., None] >> np.arange(depth)[::-1]) & 1
    rows = b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in every_bit)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_alpha_of_greys_and_half_transparent_colours(tmp_path: Path) -> None:
    grey = Image.new("LA", (4, 4), (0, 128))
    assert np.abs(rgb(saved(tmp_path / "a.png", grey)) - 127).max() <= 1
    for name in ("b.png", "b.webp", "b.tif"):
        options = {"lossless": True} if name == "b.webp" else {}
        path = saved(tmp_path / name, Image.new("RGBA", (4, 4), (255, 0, 0, 128)), **options)
        assert np.abs(rgb(path) - (255, 127, 127)).max() <= 1, name


def test_the_first_page_of_deep_tiff_counts(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 8), level, dtype=np.uint16)) for level in (1000, 2000, 4000)]
    path = saved(tmp_path / "stack.tif", pages[0], save_all=True, append_images=pages[1:])
    assert (read_image(path, DecodeRules((0, 4095))) == 1000 // 16).all()


def huge_jpeg() -> bytes:
    content = bytearray(saved_bytes(photo(), "JPEG"))
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", 50_000, 60_000)
    return bytes(content)


def huge_png(depth: int) -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 50_000, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def saved_bytes(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    for content in (huge_jpeg(), huge_png(8), huge_png(16)):
        path.write_bytes(content)
        for rules in (DEFAULT_RULES, DecodeRules((0, 4095))):
            with pytest.raises(
                BadImage, match=r"60000 x 50000 pixels, more than `data.max_pixels` \(178956970\); make .* 9.0 GB"
            ):
                read_image(path, rules)
        assert stored_values(path, DEFAULT_RULES) is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_limit_of_pixels_is_the_configs(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(saved_bytes(photo(), form))
    with pytest.raises(BadImage, match=r"it has 30 x 20 pixels, more than `data.max_pixels` \(599\)"):
        read_image(path, DecodeRules(max_pixels=599))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # twice as many are an error of Pillow's
    for limit in (600, None):
        assert read_image(path, DecodeRules(max_pixels=limit)).shape == (20, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 50


def test_images_without_pixels_are_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(grey_png(np.zeros((0, 0), dtype=int), 8))
    with pytest.raises(BadImage, match=r"cannot read the image .*a\.png"):
        read_image(path)
    with pytest.raises(ValueError, match="it has 5 x 0 pixels"):
        to_rgb(Image.fromarray(np.zeros((0, 5, 3), dtype=np.uint8)))


def test_a_truncated_deep_image_is_bad(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (64, 64, 3)).astype(np.uint16)
    for suffix in (".png", ".tif", ".ppm"):
        content = encoded(values, suffix)
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(BadImage, match=r"cannot read the image"):
            read_image(path, DecodeRules((0, 4095)))
        assert stored_values(path, DEFAULT_RULES) is None


def test_what_is_left_out_is_known_by_the_header(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    animation = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert left_out(animation) == ["several pages or frames"]
    assert left_out(saved(tmp_path / "a.png", photo().convert("RGBA"))) == ["transparency"]
    assert left_out(saved(tmp_path / "b.png", photo())) == []
    assert left_out(tmp_path / "none.png") == []


def test_stored_values_are_those_of_deep_images_only(tmp_path: Path) -> None:
    assert stored_values(saved(tmp_path / "a.png", photo()), DEFAULT_RULES) is None
    assert stored_values(tmp_path / "none.png", DEFAULT_RULES) is None


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.webp", "a.png", "a.tif", "a.avif"):
        options = {"lossless": True} if name == "a.webp" else {}
        path = saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
        assert np.abs(rgb(path) - (255, 0, 0)).max() <= (4 if name == "a.avif" else 0), name


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
    for suffix in ("jpg", "webp", "avif"):
        turned = rgb(saved(tmp_path / f"a.{suffix}", colours, exif=exif))
        assert np.array_equal(turned, upright(rgb(saved(tmp_path / f"b.{suffix}", colours)), orientation)), suffix


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
    read_image(path)
    damage(path)
    with pytest.raises(BadImage, match=words) as caught:
        read_image(path)
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
                read_image(path)
            except BadImage:
                refused += 1
    assert refused > 100


def test_a_file_that_cannot_be_read_is_not_a_bad_image(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.jpg", tmp_path):
        with pytest.raises(DataError, match=r"cannot read the image .*: (No such file|Is a directory)") as caught:
            read_image(path)
        assert not isinstance(caught.value, BadImage)
