"""Names that a source gives its images, so that a reader of folders finds each."""

from pathlib import Path

import pytest

from dist_train.data.packing.sources import ClassFolders, FolderSource, with_suffix
from dist_train.errors import DataError
from tests.support.archives import image_bytes


@pytest.mark.parametrize(
    ("split", "class_name", "path", "expected"),
    [
        ("train", "daisy", "1.jpg", "train/daisy/1.jpg"),
        ("", "daisy", "a/1.jpg", "daisy/a/1.jpg"),
        ("val", "a/b", "/data/../1.jpg", "val/a_b/data/1.jpg"),
        ("", ".net", ".hidden/1.jpg", "_net/_hidden/1.jpg"),
        ("", "..", "1.jpg", "_./1.jpg"),
        ("", " ", "__MACOSX/1.jpg", "_/___MACOSX/1.jpg"),
    ],
)
def test_no_name_is_hidden_or_leads_out(split: str, class_name: str, path: str, expected: str) -> None:
    assert ClassFolders().name(split, class_name, path) == expected


def test_two_classes_never_share_a_folder() -> None:
    folders = ClassFolders()
    assert folders.name("train", "a/b", "1.jpg") == folders.name("train", "a/b", "1.jpg")
    with pytest.raises(DataError, match="the classes 'a/b' and 'a_b' would be one folder"):
        folders.name("val", "a_b", "1.jpg")


def test_a_file_without_the_suffix_of_an_image_gets_that_of_its_content() -> None:
    assert with_suffix("1.JPEG", lambda: b"") == "1.JPEG"
    assert with_suffix("1", lambda: image_bytes()) == "1.png"
    assert with_suffix("1.img", lambda: b"?") == "1.img.jpg"


def test_a_folder_counts_what_it_leaves_aside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(image_bytes())
    (tmp_path / "a" / "notes.txt").touch()
    source = FolderSource(tmp_path)
    assert [name for name, _ in source.images()] == ["a/1.png"]
    assert (source.left_aside, source.read("a/1.png")) == (1, image_bytes())
