"""Archives as files: versions, parts, what is no file; ``data.root`` as one archive."""

import os
from functools import lru_cache
from pathlib import Path

import pytest

from dist_train.data.formats.walk import look_at_root
from dist_train.data.index import scan
from dist_train.data.shards import files
from dist_train.data.shards.files import opened, read_at, version_of
from dist_train.errors import DataError
from tests.support.archives import image_bytes, tar_of, zip_of
from tests.support.data_roots import data_config, names

FILES = {f"{split}/{name}/1.png": image_bytes(9) for split in ("train", "val") for name in "ab"}


def test_a_part_comes_with_the_version(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"0123456789")
    os.utime(path, ns=(7, 7))
    assert version_of(str(path)) == (10, 7)
    assert read_at(str(path), 2, 3) == (b"234", (10, 7))
    with opened(str(path)) as file:
        assert file.read() == b"0123456789"


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    for call in (version_of, opened, lambda path: read_at(path, 0, 1)):
        with pytest.raises(DataError, match=r"cannot read the archive .*none.tar: No such file"):
            call(str(tmp_path / "none.tar"))  # type: ignore[operator]
    with pytest.raises(DataError, match="it is not a file"):
        version_of(str(tmp_path))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_the_root_may_be_one_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = (tar_of if kind == "tar" else zip_of)(tmp_path / f"photos.{kind}", FILES)  # type: ignore[operator]
    other = (tar_of if kind == "tar" else zip_of)(tmp_path / f"train.{kind}", {"other/1.png": b""})  # type: ignore[operator]
    monkeypatch.chdir(tmp_path)
    for root in (path, Path(path.name)):
        cfg = data_config(root, format=kind)
        look_at_root(cfg)
        found = scan(cfg)
        assert names(found.train) == ["train/a/1.png", "train/b/1.png"]
        assert found.images.content("val/b/1.png") == FILES["val/b/1.png"]  # type: ignore[attr-defined]
    assert other.exists()


def test_a_root_that_is_another_file_gets_the_fix(tmp_path: Path) -> None:
    tar, text = tar_of(tmp_path / "photos.tar", FILES), tmp_path / "a.txt"
    text.touch()
    for root, form, words in (
        (tar, "zip", "is not a directory; it is an archive: set data.format=tar"),
        (tar, "imagefolder", "is not a directory; it is an archive: set data.format=tar"),
        (text, "tar", r"is not a directory; it must hold archives, or be one \(.tar\)"),
        (text, "imagefolder", "is not a directory; it must hold the images"),
        (tmp_path / "none.tar", "tar", "is not a directory; it must hold the images"),
    ):
        with pytest.raises(DataError, match=words):
            look_at_root(data_config(root, format=form))
    packed = tar_of(tmp_path / "photos.tar.gz", FILES, "w:gz")
    with pytest.raises(DataError, match=r"compressed by gzip, .* `dist-train pack FOLDER OUT`"):
        scan(data_config(packed, format="tar"))


@pytest.mark.parametrize("form", ["imagefolder", "csv"])
def test_a_remote_folder_of_single_images_is_refused(form: str) -> None:
    with pytest.raises(
        DataError, match=r"only archives are read from other machines: pack the images, and set .* tar, zip or hf"
    ):
        look_at_root(data_config("s3://bucket/photos", format=form))  # type: ignore[arg-type]


def descriptors_of(path: Path) -> int:
    """Return how many descriptors of this process are open for files below ``path``."""
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).startswith(str(path)) for link in links if os.path.islink(link))


def test_an_archive_is_opened_once_and_what_replaces_it_is_read(tmp_path: Path) -> None:
    path, other = tmp_path / "a.tar", tmp_path / "b.tar"
    for file, content in ((path, b"0123456789"), (other, b"abcdefghij")):
        file.write_bytes(content)
        os.utime(file, ns=(7, 7))
    assert [read_at(str(path), place, 1)[0] for place in range(9)] == [b"%d" % place for place in range(9)]
    assert descriptors_of(tmp_path) == 1
    other.replace(path)  # with the size and the time of the first one
    assert [read_at(str(path), 2, 3) for _ in range(2)] == [(b"cde", (10, 7))] * 2
    assert descriptors_of(tmp_path) == 1
    path.write_bytes(b"shorter")
    assert read_at(str(path), 0, 3)[1] == version_of(str(path)) != (10, 7)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read the archive .*a.tar: No such file"):
        read_at(str(path), 2, 3)
    assert descriptors_of(tmp_path) == 0


def test_an_archive_stays_open_for_a_thread_that_still_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it were closed, the next archive would get its descriptor, and the thread the bytes of that one."""
    monkeypatch.setattr(files, "_kept_open", lru_cache(maxsize=2)(files._Archive))
    for number in range(5):
        (tmp_path / f"{number}.tar").write_bytes(b"%d" % number * 9)
    read_at(f"{tmp_path}/0.tar", 0, 9)
    held = [files._kept_open(f"{tmp_path}/0.tar")]
    for number in range(1, 5):
        assert read_at(f"{tmp_path}/{number}.tar", number, 3)[0] == b"%d" % number * 3
    assert descriptors_of(tmp_path) == 3
    assert os.pread(held[0].descriptor, 9, 0) == b"0" * 9
    held.clear()
    assert descriptors_of(tmp_path) == 2


def test_a_quarter_of_the_files_that_a_process_may_open_are_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((256, 64), (1 << 20, 1024), (files.resource.RLIM_INFINITY, 1024)):
        monkeypatch.setattr(files.resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert files._most_open() == most
