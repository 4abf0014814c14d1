"""Tables of tar archives: places of files, links, long names, damage."""

import tarfile
from pathlib import Path

import pytest

from dist_train.data.shards.members import Aside
from dist_train.data.shards.tar_members import NO_FILES, tar_members
from dist_train.errors import DataError
from tests.support.archives import tar_of

LONG = "train/" + "a" * 300 + "/ü.png"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_each_file_is_found_at_its_place(tmp_path: Path, form: int) -> None:
    files = {"a/1.png": b"one", "a/empty.png": b"", "b/2.png": bytes(range(256)) * 5}
    if form != tarfile.USTAR_FORMAT:
        files[LONG] = b"long"
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        for name, content in files.items():
            (tmp_path / "file").write_bytes(content)
            archive.add(tmp_path / "file", name)
    content = (tmp_path / "a.tar").read_bytes()
    found = {
        member.name: content[member.offset : member.offset + member.length]
        for member in tar_members(str(tmp_path / "a.tar"), Aside())
    }
    assert found == files


def test_links_and_devices_are_counted_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)):
            header = tarfile.TarInfo(f"{number}.png")
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
    aside = Aside()
    assert list(tar_members(str(path), aside)) == []
    assert dict(aside.kinds) == {NO_FILES: 3}


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_archive_is_refused_with_the_command(tmp_path: Path, kind: str) -> None:
    path = tar_of(tmp_path / "a.tar", {"a/1.png": b"one"}, f"w:{kind}")
    with pytest.raises(
        DataError, match=r"a.tar is compressed by .*; unpack it to a folder and run `dist-train pack FOLDER OUT`"
    ):
        list(tar_members(str(path), Aside()))


@pytest.mark.parametrize("left", [0, 100, 512 + 700, 512 + 3072, 512 + 3072 + 100, 2 * 512 + 3072, 2 * (512 + 3072)])
def test_an_archive_that_is_cut_off_is_named(tmp_path: Path, left: int) -> None:
    path = tar_of(tmp_path / "a.tar", {"a/1.png": bytes(3000), "a/2.png": bytes(range(250)) * 12})
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DataError, match=r"cannot read the archive .*a.tar: .*; copy or pack it again"):
        list(tar_members(str(path), Aside()))


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(DataError, match="cannot read the archive"):
        list(tar_members(str(tmp_path / "a.tar"), Aside()))
    with pytest.raises(DataError, match="No such file"):
        list(tar_members(str(tmp_path / "b.tar"), Aside()))


def test_archives_that_were_joined_are_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", {"a/1.png": b"one"})
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(DataError, match="another archive follows its end, and would not be read"):
        list(tar_members(str(path), Aside()))


def test_a_damaged_header_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", {f"a/{number}.png": b"one" for number in range(3)})
    content = bytearray(path.read_bytes())
    content[1024 + 100] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="a header in it is damaged, so that the files behind it would not be read"):
        list(tar_members(str(path), Aside()))


@pytest.mark.parametrize("hole", [10, 3000])
def test_a_part_that_was_not_downloaded_is_named(tmp_path: Path, hole: int) -> None:
    """A program that fetches several parts at once makes the file of its whole size first, with zeros."""
    path = tar_of(tmp_path / "a.tar", {f"a/{number}.png": bytes([number % 256]) * 1000 for number in range(1500)})
    content = bytearray(path.read_bytes())
    content[3072 : 3072 + 512 * hole] = bytes(512 * hole)
    path.write_bytes(content if hole == 10 else content[: 3072 + 512 * hole])
    with pytest.raises(DataError, match=r"another archive follows its end|zeros follow its end: it was probably not"):
        list(tar_members(str(path), Aside()))
