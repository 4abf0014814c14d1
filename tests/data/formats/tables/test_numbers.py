"""Numbers and labels of 0 and 1: by columns they are what they are row by row."""

from contextlib import suppress
from pathlib import Path

import pytest

from dist_train.data.formats.base import Findings
from dist_train.data.formats.tables.numbers import labels_of, numbers, plain_numbers, switched
from dist_train.data.formats.tables.rows import Row
from dist_train.errors import DataError

TEXTS = [
    "0", "-1.5", "+2", ".5", "7.", "1e3", "2E-4", "3.4028234e38", "1e-400",
    "3.5e38", "1e999", "nan", "inf", "", "1,5", "1_000", "٣", "0x10", "1.5 m", "-",
]  # fmt: skip


def row(*fields: str) -> Row:
    return Row(Path("t.csv"), 7, "a.png", fields)


@pytest.mark.parametrize("text", TEXTS)
def test_a_number_is_plain_if_nothing_is_to_be_said_about_it(text: str) -> None:
    findings, expected = Findings(), None
    with suppress(DataError):
        expected = numbers(row("1", text), findings)
    assert plain_numbers(("1", text)) == (None if findings.refusals() else expected)


def test_which_numbers_are_plain() -> None:
    assert [text for text in TEXTS if plain_numbers((text,)) is not None] == TEXTS[:9]
    assert plain_numbers(("-1.5", "1e3")) == (-1.5, 1000.0)


def test_spellings_that_only_python_reads_are_refused_but_read() -> None:
    findings = Findings()
    assert numbers(row("1_000", "٣"), findings) == (1000.0, 3.0)
    assert "t.csv line 7" in findings.refusals()[0]
    assert "write digits only" in findings.refusals()[0]


def test_labels_by_columns_are_those_of_the_rows() -> None:
    rows = [("1", "0", "0"), ("0", "0", "0"), ("1", "0", "1"), ("0", "1", "0"), ("1", "1", "1"), ("0", "0", "1")]
    found = labels_of([*zip(*rows, strict=True)])
    assert found == [(0,), (), (0, 2), (1,), (0, 1, 2), (2,)]
    assert found == [switched(row(*fields), Findings()).labels for fields in rows]


@pytest.mark.parametrize("odd", ["1.0", "", "2", "01", "10"])
def test_columns_with_anything_but_0_and_1_are_left_to_the_rows(odd: str) -> None:
    assert labels_of([["0", "1"], ["1", odd]]) is None


def test_a_row_of_other_zeros_and_ones_has_labels_too() -> None:
    found = switched(row("1.0", "0.0", "1", "-0"), Findings())
    assert (found.labels, found.fields) == ((0, 2), ())
    with pytest.raises(DataError, match=r"t.csv line 7 has labels 1, 0.5; with a column per class they must be 0 or 1"):
        switched(row("1", "0.5"), Findings())
