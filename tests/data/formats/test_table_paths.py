"""Paths in tables: other Unicode forms, missing suffixes, paths of Windows."""

import unicodedata
from pathlib import Path

import pytest

from dist_train.data.formats import table_paths
from dist_train.data.formats.table_file import Row
from dist_train.data.formats.table_paths import find_images
from dist_train.data.index import scan
from dist_train.data.stored import file_facts
from dist_train.errors import DataError
from tests.support.data_roots import data_config, names, picture
from tests.support.photo_tables import GOOD, written


def test_a_path_that_names_no_file_is_refused_with_its_fix(photos: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: .*No such file.*; this is a path of Windows: write / instead of"):
        scan(written(photos, GOOD.replace("/", "\\")))
    with pytest.raises(DataError, match=r"line 2: .*; photos/0.png exists: set `data.csv.suffix=.png`"):
        scan(written(photos, GOOD.replace(".png", "")))


def test_ids_without_a_suffix(photos: Path) -> None:
    plain, bare = GOOD, GOOD.replace(".png", "")
    expected = scan(written(photos, plain)).fingerprint
    (photos / "train.csv").write_text(bare)
    assert scan(data_config(photos, format="csv", val_fraction=0.4, csv={"suffix": ".png"})).fingerprint == expected


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_found_in_any_unicode_form(photos: Path, forms: tuple[str, str]) -> None:
    on_disk, in_table = (unicodedata.normalize(form, "photos/é.png") for form in forms)
    (photos / "photos" / "0.png").rename(photos / on_disk)
    index = scan(written(photos, GOOD.replace("photos/0.png", in_table)))
    assert on_disk in names(index.train) + names(index.val)


def test_of_files_in_listed_folders_none_is_asked_for(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with far more files than the table names, each image is looked up alone."""
    rows = [Row(photos / "t.csv", 2, f"d{place % 30}/{place}.png", ("a",)) for place in range(300)]
    for row in rows:
        picture(photos / row.path)
    rows.append(Row(photos / "t.csv", 2, "./d0/link.png", ("a",)))
    (photos / "d0" / "link.png").symlink_to("0.png")
    expected = [row.path for row in rows]
    asked: list[str] = []
    known_of = file_facts.known_of
    monkeypatch.setattr(table_paths, "known_of", lambda root, left: asked.extend(left) or known_of(root, left))
    assert [*find_images(photos, rows)] == expected
    assert asked == ["./d0/link.png"]
    monkeypatch.setattr(table_paths, "SPARE", -35)
    assert [*find_images(photos, rows)] == expected
    assert asked[1:] == expected
