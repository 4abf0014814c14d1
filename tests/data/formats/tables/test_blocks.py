"""Blocks of plain lines become columns; any other block does not."""

import csv

import pytest

from dist_train.data.formats.tables import blocks
from dist_train.data.formats.tables.blocks import columns_of

PLAIN = [["x", "y"], ["1", "2"]]


@pytest.mark.parametrize(
    "text",
    [
        "x,0,1\ny,0,2\n",
        "x,0,1\ny,0,2",
        "x,0,1\r\ny,0,2\r\n",
        "x,0,1\r\ny,0,2\n",
        " x,0,1\ny ,0,\t2\n",
        "\x1fx,0,1\ny,0,\u00a02\n",
        '"x",0,1\n"y",0,2\n',
        '"x","a,b",1\ny,"""",2\n',
    ],
)
def test_wanted_columns_of_plain_lines(text: str) -> None:
    assert columns_of(text, ",", 3, [0, 2]) == PLAIN


def test_a_separator_that_is_also_a_space() -> None:
    assert columns_of("x\t0\t1\ny\t0\t2\n", "\t", 3, [0, 2]) == PLAIN


def test_columns_come_in_the_order_that_is_asked_for() -> None:
    assert columns_of("x,0,1\n", ",", 3, [2, 0, 2]) == [["1"], ["x"], ["1"]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x,0,1\n\ny,0,2\n", "a blank line"),
        ("x,0,1\ny,0\n", "a line with fewer fields"),
        ("x,0,1\ny,0,2,3\n", "a line with more fields"),
        ("x,0\ny,0,2,3\n", "two lines whose fields are as many as those of two good ones"),
        ("x,0,1\ry,0,2\n", "a line that ends with CR alone"),
        ("x,0,\0\n", "a zero byte"),
        ('x,"0\n1",1\n', "a value of two lines"),
        ('x,"0"0,1\n', "text behind a quote"),
        ('x,"0,1\n', "a quote that is not closed"),
        ('x,"0",1\ny,"0"\n', "quotes, and a line with fewer fields"),
    ],
)
def test_other_blocks_are_left_to_the_reader_of_lines(text: str, why: str) -> None:
    assert columns_of(text, ",", 3, [0, 2]) is None, why


def test_lines_of_one_field_may_be_blank() -> None:
    assert columns_of("x\ny\n", ",", 1, [0]) is None


def test_a_value_that_is_too_long_is_left_to_the_reader_of_lines() -> None:
    long = "x" * (csv.field_size_limit() + 1)
    assert columns_of(f"{long},0,1\n", ",", 3, [0]) is None


def test_plain_blocks_are_split_without_the_csv_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_parsed", None)
    assert columns_of("x,0,1\ny,0,2\n", ",", 3, [0, 2]) == PLAIN
