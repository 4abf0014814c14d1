"""A table in columns gives its images as rows, and a part of them as a table."""

from pathlib import Path

from dist_train.data.formats.tables.rows import Row, Table
from tests.support.photo_tables import in_columns


def test_an_image_as_a_row() -> None:
    table = in_columns(["a.png", "b.png"], ["1", "2"], ["3", "4"], further=[["x", "y"]])
    assert table.row(1) == Row(Path("t.csv"), 3, "b.png", ("2", "4"), ("y",))
    assert table.row(1).where == "t.csv line 3"


def test_labels_in_place_of_fields() -> None:
    table = Table(Path("t.csv"), [], [], [])
    table.add([7], ["a.png"], [])
    table.labels.append((0, 5))
    assert table.row(0) == Row(Path("t.csv"), 7, "a.png", (), (), (0, 5))


def test_images_are_added_to_each_column() -> None:
    table = in_columns(["a.png"], ["1"], further=[["x"]])
    table.add([9, 12], ["b.png", "c.png"], [["2", "3"], ["y", "z"]])
    assert len(table) == 3
    assert [table.row(place) for place in (0, 2)] == [
        Row(Path("t.csv"), 2, "a.png", ("1",), ("x",)),
        Row(Path("t.csv"), 12, "c.png", ("3",), ("z",)),
    ]


def test_the_images_that_are_wanted_keep_all_their_columns() -> None:
    table = in_columns(["a.png", "b.png", "c.png"], ["1", "2", "3"], further=[["x", "y", "z"]])
    table.labels = [(0,), (1,), (2,)]
    kept = table.where([True, False, True])
    assert [kept.row(place) for place in range(len(kept))] == [table.row(0), table.row(2)]
    assert len(table) == 3
