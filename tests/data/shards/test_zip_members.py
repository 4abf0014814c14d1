"""Tables of zip archives: stored and deflated files, other methods, damage."""

import stat
import zipfile
import zlib
from pathlib import Path

import pytest

from dist_train.data.shards.members import Aside
from dist_train.data.shards.zip_members import zip_members
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


def test_other_methods_are_counted(tmp_path: Path) -> None:
    aside = Aside()
    assert list(zip_members(str(zip_of(tmp_path / "a.zip", FILES, zipfile.ZIP_LZMA)), aside)) == []
    assert sum(aside.kinds.values()) == 3


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
