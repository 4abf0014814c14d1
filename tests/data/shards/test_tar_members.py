"""Tables of tar archives: places of files, links, long names, damage."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from dist_train.data.shards.members import Aside
from dist_train.data.shards.tar_members import NO_FILES, NOWHERE, tar_members
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


def _with_links(path: Path, links: dict[str, tuple[bytes, str]], files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, (kind, target) in links.items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, target
            archive.addfile(header)
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def test_a_link_to_a_file_of_the_archive_has_its_bytes(tmp_path: Path) -> None:
    links = {
        "./b/hard.png": (tarfile.LNKTYPE, "./a/1.png"),
        "./b/soft.png": (tarfile.SYMTYPE, "../a/1.png"),
        "./b/chain.png": (tarfile.SYMTYPE, "soft.png"),
        "./b/other.png": (tarfile.LNKTYPE, "a/2.png"),
    }
    path = _with_links(tmp_path / "a.tar", links, {"./a/1.png": b"one", "a/2.png": b"second"})
    aside, content = Aside(), path.read_bytes()
    found = {each.name: content[each.offset : each.offset + each.length] for each in tar_members(str(path), aside)}
    first = dict.fromkeys(("./a/1.png", "./b/hard.png", "./b/soft.png", "./b/chain.png"), b"one")
    assert found == first | {"a/2.png": b"second", "./b/other.png": b"second"}
    assert not aside.kinds


def test_tar_itself_writes_such_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"one")
    (tmp_path / "a" / "2.png").hardlink_to(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "3.png").symlink_to("1.png")
    subprocess.run(["tar", "-cf", "a.tar", "a"], cwd=tmp_path, check=True)
    content = (tmp_path / "a.tar").read_bytes()
    found = list(tar_members(str(tmp_path / "a.tar"), Aside()))
    assert sorted(each.name for each in found) == ["a/1.png", "a/2.png", "a/3.png"]
    assert {content[each.offset : each.offset + each.length] for each in found} == {b"one"}


def test_other_links_and_devices_are_counted_and_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    outside.write_bytes(b"secret")
    links = {
        "a/0.png": (tarfile.SYMTYPE, str(outside)),
        "a/1.png": (tarfile.LNKTYPE, str(outside)),
        "a/2.png": (tarfile.SYMTYPE, "../../secret.png"),
        "a/3.png": (tarfile.SYMTYPE, "4.png"),
        "a/4.png": (tarfile.SYMTYPE, "3.png"),
        "a/5.png": (tarfile.SYMTYPE, "."),
        "a/6.png": (tarfile.FIFOTYPE, ""),
        "a/7.png": (tarfile.SYMTYPE, "6.png"),
    }
    aside = Aside()
    assert list(tar_members(str(_with_links(tmp_path / "a.tar", links, {})), aside)) == []
    assert dict(aside.kinds) == {NOWHERE: 7, NO_FILES: 1}


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
