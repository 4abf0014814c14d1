"""The files of a folder, as ``pack`` reads them."""

from pathlib import Path

from dist_train.data.packing.sources import FolderSource
from tests.support.archives import image_bytes


def test_a_folder_counts_what_it_leaves_aside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(image_bytes())
    (tmp_path / "a" / "notes.txt").touch()
    source = FolderSource(tmp_path)
    assert [name for name, _ in source.images()] == ["a/1.png"]
    assert (source.left_aside, source.read("a/1.png")) == (1, image_bytes())
