"""Names that others chose, on a terminal and in a spreadsheet."""

import doctest

import pytest

from dist_train.system import foreign_text
from dist_train.system.foreign_text import csv_cell, printable


def test_examples() -> None:
    assert doctest.testmod(foreign_text).failed == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name, with ü, 猫 and 👩‍🔬", "plain name, with ü, 猫 and 👩‍🔬"),
        ("\x1b]0;t\x07", r"\x1b]0;t\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("a\r\nb\tc\x7f", r"a\x0d\x0ab\x09c\x7f"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff", r"\xff"),
        ("\u2028", r"\u2028"),
    ],
)
def test_nothing_in_a_name_controls_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut_and_some_characters_may_stay() -> None:
    assert printable("a" * 50, most=10) == "aaaaaaa..."
    assert printable("a\n\x1b", keep="\n") == "a\n\\x1b"


@pytest.mark.parametrize("text", ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\uff1d1", "=HYPERLINK(1)"])
def test_a_formula_is_text_and_a_number_a_number(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    for value in (-0.5, 3, None, True, "-0.5", "+1e-05", "a=b", "name", ""):
        assert csv_cell(value) == value
