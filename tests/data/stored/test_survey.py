"""What a scan looks at is noted before it is read, and compared later."""

import os
from pathlib import Path

import pytest

from dist_train.data.stored.survey import (
    UNKNOWN,
    Survey,
    first_changed,
    note,
    note_folders,
    note_images,
    stamp_of,
    surveyed,
)
from dist_train.errors import DataError


def _old(path: Path, ns: int = 123_456_789) -> Path:
    os.utime(path, ns=(ns, ns))
    return path


def test_folders_tables_and_images_are_noted(tmp_path: Path) -> None:
    table, image = tmp_path / "t.csv", tmp_path / "deep" / "a.jpg"
    table.write_text("12345")
    image.parent.mkdir()
    image.touch()
    for path in (table, image, image.parent, tmp_path):
        _old(path)
    note(tmp_path / "before")  # no survey is taken
    with surveyed() as survey:
        note(tmp_path)
        note(table)
        note_folders(str(tmp_path), ["deep/a.jpg", "deep/b.jpg"])
        note_images([("deep/a.jpg", image.stat().st_mtime_ns)])
    note(tmp_path / "after")
    assert survey.places == {
        str(tmp_path): (123_456_789, 0),
        str(table): (123_456_789, 5),
        str(image.parent): (123_456_789, 0),
    }
    assert survey.changed_ns == {"deep/a.jpg": 123_456_789}
    assert first_changed([*survey.places.items()]) == ""


def test_the_first_note_of_a_place_counts(tmp_path: Path) -> None:
    """What changes while it is read differs from the note."""
    survey = Survey()
    _old(tmp_path)
    survey.note(str(tmp_path))
    (tmp_path / "new").touch()
    survey.note(str(tmp_path))
    assert first_changed([*survey.places.items()]) == str(tmp_path)


def test_times_that_say_too_little_are_unknown(tmp_path: Path) -> None:
    """A second change in the same tick of the file system's clock would have the same time."""
    survey = Survey()
    now = tmp_path.stat().st_mtime_ns
    for name, ns in (("whole seconds", now // 10**9 * 10**9), ("future", now + 10**12), ("old", now - 10**10 + 1)):
        (tmp_path / name).mkdir()
        survey.note(str(_old(tmp_path / name, ns)))
    survey.note(str(tmp_path / "absent"))
    known = {Path(path).name: stamp[0] != UNKNOWN for path, stamp in survey.places.items()}
    assert known == {"whole seconds": False, "future": False, "old": True, "absent": False}
    assert first_changed([(str(tmp_path / "absent"), stamp_of(str(tmp_path / "absent")))]) != "", (
        "unknown is never equal"
    )


def test_many_places_are_all_compared(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(500)]
    for path in paths:
        path.write_text(path.name)
    expected = [(str(path), stamp_of(str(path))) for path in paths]
    assert first_changed(expected) == ""
    paths[-1].write_text("1")
    assert first_changed(expected) == str(paths[-1])


def test_a_remote_folder_that_cannot_be_listed_is_an_error_and_no_change() -> None:
    with pytest.raises(DataError, match="cannot read nowhere://a"):
        first_changed([("nowhere://a", (1, 0))])
