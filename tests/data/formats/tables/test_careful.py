"""Lines that are not as the header says, quotes, encodings, and files that are no tables."""

import os
from pathlib import Path

import pytest

from dist_train.data.index import scan
from dist_train.errors import ConfigError, DataError
from tests.support.data_roots import data_config, names
from tests.support.photo_tables import GOOD, paths, written


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "photos/0.png,b, big,x",
            r"line 8: more fields than the header \(3\); put a value that holds ',' in double quotes",
        ),
        ("photos/0.png,a,x,", r"line 8: more fields than the header"),
        ("photos/0.png,a", r"line 8: fewer fields than the header \(3\); add"),
        ('photos/0.png,"a,x\nphotos/1.png,b,x', r"line 8: a quote opens a value here and is never closed; write"),
        ('photos/0.png,"a"b,x', r"line 8: text follows a closing quote"),
        ('photos/0.png,"a\nb",x', r"line 8: a path or target holds a line break"),
        (
            'photos/0.png,a,"x\nphotos/1.png,b,x\nphotos/2.png,a,"',
            r"line 8: a quoted value holds whole lines of the table",
        ),
        ("photos/0.png,a\0,x", r"line 8: a path or target holds a zero byte"),
        ("photos/0.png,nan,x", r"line 8: the label 'nan' stands for a missing value; remove the line, or list it"),
        ("photos/0.png,#N/A,x", r"line 8: the label '#N/A' stands"),
    ],
)
def test_a_line_that_would_lose_something_is_refused_by_number(photos: Path, line: str, words: str) -> None:
    cfg = written(photos, GOOD.replace("photos/0.png,a,x\n", "") + f"\n{line}\n")  # after a blank line, the seventh
    with pytest.raises(DataError, match=words):
        scan(cfg)
    lenient = scan(cfg, strict=False)
    assert "train.csv line 8" in lenient.refused[0], "a resume reads the line as version 0.1.0 did"


def test_lines_with_the_same_fault_are_counted(photos: Path) -> None:
    cfg = written(photos, GOOD.replace(",x", ",x,y"))
    with pytest.raises(DataError, match=r"train.csv line 2 \(and 5 more\): more fields"):
        scan(cfg)


def test_a_value_of_several_lines_that_is_no_path_or_target_is_read(photos: Path) -> None:
    index = scan(written(photos, GOOD.replace(",x", ',"a caption,\nin two lines, with ""quotes"""')))
    assert sorted(names(index.train) + names(index.val)) == paths(*range(6))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_and_blank_lines_and_a_byte_order_mark(photos: Path, end: str) -> None:
    index = scan(written(photos, ("\ufeff\n\n" + GOOD.replace("\n", "\n \n") + "\n\n").replace("\n", end)))
    assert (len(index.train) + len(index.val), index.classes) == (6, ["a", "b"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD.encode("utf-16"), r"train.csv is UTF-16, .*save it as UTF-8"),
        (GOOD.encode("utf-16-le"), r"train.csv is UTF-16, .*save it as UTF-8"),
        (
            GOOD.replace("a,x", "é,x").encode("latin-1"),
            r"train.csv line 2: byte 0xe9 is not UTF-8; save the table as UTF-8",
        ),
        (b"PK\x03\x04\xff\xff", r"train.csv is a spreadsheet or an archive, not a CSV file"),
        (
            b"path;label\na.png;x",
            r'has no column path; the character between its columns is .;.: set `data.csv.separator: ";"` in',
        ),
        (b"path\tlabel\na.png\tx", r'set `data.csv.separator: "\\t"` in the config'),
        (b"", r"train.csv has no column path; its first line, the header, is empty"),
        ('path,label\nphotos/0.png,"' + "a" * 140_000, r"train.csv line 2: a value is longer than 131072 characters"),
    ],
)
def test_files_that_are_no_tables_of_utf8(photos: Path, content: bytes | str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        scan(written(photos, content))


def test_a_table_that_is_a_pipe_or_a_folder_is_refused(photos: Path) -> None:
    os.mkfifo(photos / "train.csv")
    cfg = data_config(photos, format="csv", val_fraction=0.4)
    with pytest.raises(DataError, match=r"train.csv: it is not a file"):
        scan(cfg)
    with pytest.raises(DataError, match=r"photos: it is not a file"):
        scan(data_config(photos, format="csv", val_fraction=0.4, csv={"train": "photos"}))
    with pytest.raises(ConfigError, match=r"`data.csv.separator` \('\"'\) cannot separate columns"):
        scan(data_config(photos, format="csv", csv={"separator": '"'}))
