"""Paths in tables: other Unicode forms, missing suffixes, paths of Windows."""

import os
import unicodedata
from pathlib import Path

import pytest

from dist_train.data.formats.tables import paths as table_paths
from dist_train.data.formats.tables.order import Order
from dist_train.data.formats.tables.paths import looked_up
from dist_train.data.index import scan
from dist_train.data.stored import file_facts
from dist_train.data.stored.survey import surveyed
from dist_train.errors import DataError
from dist_train.system.machine import second_core
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


@pytest.fixture(params=[False, True], ids=["alone", "halves"])
def _processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process looks at half of the folders, or none does."""
    if request.param:
        monkeypatch.setattr(second_core, "PAYS_FROM", 0)
        monkeypatch.setattr(second_core, "usable_cores", lambda: 2)


def lost(root: Path, *paths: str) -> list[str]:
    """Return the paths for which ``looked_up`` finds no file, in the order of the table."""
    return [paths[place] for place in looked_up(str(root), paths, Order.of([*paths]))[0]]


def test_of_files_in_listed_folders_none_is_asked_for(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with far more files than the table names, each image is looked up alone."""
    paths = [f"d{place % 30}/{place}.png" for place in range(300)]
    for path in paths:
        picture(photos / path)
    paths.append("./d0/link.png")
    (photos / "d0" / "link.png").symlink_to("0.png")
    asked: list[str] = []
    known_of = file_facts.known_of
    monkeypatch.setattr(table_paths, "known_of", lambda root, left: asked.extend(left) or known_of(root, left))
    assert lost(photos, *paths) == []
    assert asked == ["./d0/link.png"]
    monkeypatch.setattr(table_paths, "SPARE", -35)
    assert lost(photos, *paths) == []
    assert asked[1:] == paths


@pytest.mark.usefixtures("_processes")
def test_what_is_no_file_is_lost(photos: Path) -> None:
    (photos / "photos" / "folder.png").mkdir()
    (photos / "photos" / "dangling.png").symlink_to("nowhere.png")
    os.mkfifo(photos / "photos" / "pipe.png")
    wrong = [
        "photos/pipe.png", "photos/folder.png", "photos/dangling.png", "photos/9.png", "elsewhere/0.png", "0.png",
        "photos", "", "photos/\0.png", "pho\0tos/0.png", "photos/0.png/", "photos/1.png/.", "photos/2.png/x", "absent/../photos/3.png",
    ]  # fmt: skip
    right = ["photos/5.png", "photos/../photos/4.png", str(photos / "photos" / "0.png")]
    assert lost(photos, *wrong, *right) == wrong
    assert lost(photos, *right, *reversed(wrong)) == wrong[::-1]
    for path in wrong:
        assert lost(photos, path, *right) == [path]


@pytest.mark.usefixtures("_processes")
def test_a_lost_image_that_is_repeated_is_named_once(photos: Path) -> None:
    assert lost(photos, "photos/9.png", "photos/1.png", "./photos/9.png", "photos/9.png") == ["photos/9.png"]


def test_two_dots_behind_a_link_lead_where_the_system_goes(photos: Path) -> None:
    """``link/../0.png`` is not ``0.png``: the folder above the link's target counts."""
    picture(photos / "far" / "deep" / "1.png")
    picture(photos / "far" / "0.png")
    picture(photos / "only_here.png")
    (photos / "link").symlink_to("far/deep")
    paths = ["link/../0.png", "link/../only_here.png", "link/1.png"]
    assert lost(photos, *paths) == ["link/../only_here.png"]


def test_the_folders_of_a_table_are_noted_once_in_its_order(photos: Path) -> None:
    """A kept list of images is read again once one of these folders has changed."""
    for path in ("b/1.png", "b/deep/2.png", "a/3.png"):
        picture(photos / path)
    for paths in (
        ["photos/0.png", "b/1.png", "b/deep/2.png", "photos/1.png", "a/3.png"],
        ["photos/0.png", "b/1.png", "b/deep/2.png", "photos/1.png", "a/3.png", "b/1.png"],
    ):
        with surveyed() as survey:
            assert lost(photos, *paths) == []
        noted = [os.path.relpath(path, photos) for path in survey.places]
        assert noted == ["photos", "b", "b/deep", "a"]
