"""Zip archives: stored and deflated files, other methods, damage; streams inflated by libdeflate and by zlib."""

import random
import stat
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from dist_train.data.shards import zip_members as reader
from dist_train.data.shards.members import Aside
from dist_train.data.shards.zip_members import inflate, zip_members
from dist_train.errors import DataError
from tests.support.archives import zip_of

FILES = {"a/1.png": b"one" * 100, "a/empty.png": b"", "b/ü.png": bytes(range(256)) * 5}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_each_file_is_found_at_its_place(tmp_path: Path, method: int) -> None:
    path = zip_of(tmp_path / "a.zip", FILES, method)
    content = path.read_bytes()
    for member in zip_members(str(path), Aside()):
        packed = content[member.offset : member.offset + member.length]
        assert member.deflated == (method == zipfile.ZIP_DEFLATED)
        assert (zlib.decompress(packed, -15) if member.deflated else packed) == FILES[member.name]
        assert member.size == len(FILES[member.name])


class Stream:
    """A file in which no position is known."""

    written = b""

    def write(self, content: bytes) -> int:
        self.written += content
        return len(content)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_sizes_behind_the_content_and_fields_of_64_bits(tmp_path: Path, method: int) -> None:
    """As programs write that stream an archive: the header before the content has no sizes."""
    stream = Stream()
    with zipfile.ZipFile(stream, "w", method) as archive:  # type: ignore[call-overload]
        for name, content in FILES.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    content = stream.written
    (tmp_path / "a.zip").write_bytes(content)
    assert content.count(b"PK\x07\x08") == len(FILES)
    for member in zip_members(str(tmp_path / "a.zip"), Aside()):
        packed = content[member.offset : member.offset + member.length]
        assert (zlib.decompress(packed, -15) if member.deflated else packed) == FILES[member.name]


def with_field(path: Path, place: int, value: int) -> Path:
    """Set a field of 16 bits in the table of an archive, for all files."""
    content, entry = bytearray(path.read_bytes()), 0
    while (entry := content.find(b"PK\1\2", entry)) >= 0:
        content[entry + place : entry + place + 2] = value.to_bytes(2, "little")
        entry += 4
    path.write_bytes(content)
    return path


FLAGS, METHOD = 8, 10


@pytest.mark.parametrize(
    ("field", "value"), [(FLAGS, 0x1), (FLAGS, 0x41), *((METHOD, method) for method in (9, 12, 14, 93, 98))]
)
def test_encrypted_files_and_other_methods_are_counted(tmp_path: Path, field: int, value: int) -> None:
    aside, path = Aside(), zip_of(tmp_path / "a.zip", FILES, zipfile.ZIP_DEFLATED)
    assert list(zip_members(str(with_field(path, field, value)), aside)) == []
    assert aside.kinds == {"files that are encrypted, or packed by another method than deflate": 3}


def test_names_in_utf_8_need_no_flag(tmp_path: Path) -> None:
    """``zip`` and macOS write none."""
    path = zip_of(tmp_path / "a.zip", {"größe/貓.png": b"one"})
    for flags in (0x800, 0):
        assert [member.name for member in zip_members(str(with_field(path, FLAGS, flags)), Aside())] == ["größe/貓.png"]
    path.write_bytes(path.read_bytes().replace("größe/貓".encode(), "größe/abc".encode("cp437") + b"__"))
    assert [member.name for member in zip_members(str(path), Aside())] == ["größe/abc__.png"]


def test_a_part_of_a_split_archive_gets_the_fix(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", FILES)
    content = bytearray(path.read_bytes())
    content[content.rfind(b"PK\1\2") + 34] = 1  # the last file lies in the second part
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.zip: it is one of several parts, which `zip -s 0 .*` joins"):
        list(zip_members(str(path), Aside()))


@pytest.mark.parametrize("left", [0, 10, 500, 1500])
def test_an_archive_that_is_cut_off_is_named(tmp_path: Path, left: int) -> None:
    path = zip_of(tmp_path / "a.zip", FILES)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DataError, match=r"cannot read the archive .*a.zip: .*; copy or pack it again"):
        list(zip_members(str(path), Aside()))


def test_names_of_windows_and_files_that_no_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(tmp_path / "a.zip", {"train\\a\\1.png": b"one", "b.png": bytes(2000)})
    monkeypatch.setattr("dist_train.data.shards.zip_members.MOST_BYTES", 1000)
    aside = Aside()
    assert [member.name for member in zip_members(str(path), aside)] == ["train/a/1.png"]
    assert dict(aside.kinds) == {"files of more than 1 GB": 1}


def test_a_link_is_counted_and_not_read(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "1.png")
        archive.writestr("a/1.png", b"one")
    aside = Aside()
    assert [member.name for member in zip_members(str(tmp_path / "a.zip"), aside)] == ["a/1.png"]
    assert aside.kinds == {"links (zip without -y writes them as files)": 1}


CONTENTS = (b"", b"a", b"abc" * 5000, random.Random(0).randbytes(70_000), bytes(300_000))
OTHER = "it has other bytes than the archive says"


@pytest.fixture(params=["zlib", "deflate"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Inflate by one of the libraries."""
    package = pytest.importorskip("deflate") if request.param == "deflate" else None
    monkeypatch.setattr(reader, "_libdeflate", lambda: package)
    return str(request.param)


def deflated(content: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, strategy=strategy)
    half = packer.compress(content[: len(content) // 2]) + packer.flush(zlib.Z_FULL_FLUSH)
    return half + packer.compress(content[len(content) // 2 :]) + packer.flush()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("level", range(10))
def test_bytes_of_every_level_and_strategy(level: int) -> None:
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED):
        for content in CONTENTS:
            found = inflate(deflated(content, level, strategy), len(content))
            assert found == content
            assert isinstance(found, bytes)  # TurboJPEG takes no bytearray


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("packed", "size", "error"),
    [
        (deflated(b"abc" * 99)[:-1], 297, OTHER),
        (deflated(b"abc" * 99)[:9], 297, OTHER),
        (b"", 297, OTHER),
        (b"", 0, OTHER),
        (deflated(b"abc" * 99), 296, OTHER),
        (deflated(b"abc" * 99), 298, OTHER),
        (deflated(b"abc" * 99), 0, OTHER),
        (deflated(b""), 1, OTHER),
        (b"\xff" * 99, 297, "Error -3 while decompressing data: invalid block type"),
    ],
)
def test_what_is_damaged_has_the_same_error(packed: bytes, size: int, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        inflate(packed, size)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("size", [0, 100])
def test_a_bomb_is_not_unpacked(size: int) -> None:
    packed = deflated(bytes(20_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=OTHER):
            inflate(packed, size)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("library")
def test_bytes_after_the_end_do_not_count() -> None:
    assert inflate(deflated(b"abc" * 99) + b"further", 297) == b"abc" * 99


def test_zlib_is_taken_where_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deflate", None)
    reader._libdeflate.cache_clear()
    try:
        assert inflate(deflated(b"abc" * 99), 297) == b"abc" * 99
        assert reader._libdeflate() is None
    finally:
        reader._libdeflate.cache_clear()
