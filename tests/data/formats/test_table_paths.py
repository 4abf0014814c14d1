"""Paths in tables: other Unicode forms, missing suffixes, paths of Windows."""

import unicodedata
from pathlib import Path

import pytest

from dist_train.data.index import scan
from dist_train.errors import DataError
from tests.support.data_roots import data_config, names
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
