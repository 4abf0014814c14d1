"""A table that is read by blocks is the one that is read line by line."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_train.config.sections.data import CsvConfig
from dist_train.data.formats.base import Findings
from dist_train.data.formats.tables import file as reader
from dist_train.data.formats.tables.file import read_table
from dist_train.errors import DataError, DistTrainError

VALUES = ["p/0.png", "p/1.png", "a", "b", "0", "1", " a ", "", "é", "\x1f", "\u00a0b", "x\0"]
QUOTES = ['"a"', '"a,b"', '"a""b"', '"a\nb"', '"p/0.png\np/1.png,a,b"', 'a"b', '"a"b', '"a']
LINES = st.lists(
    st.lists(st.sampled_from(VALUES[:6]), min_size=3, max_size=3)
    | st.lists(st.sampled_from(VALUES), min_size=0, max_size=4)
    | st.lists(st.sampled_from(VALUES[:6] + QUOTES), min_size=3, max_size=3),
    max_size=12,
)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(
    lines=LINES,
    end=st.sampled_from(["\n", "\n", "\r\n", "\r"]),
    last=st.sampled_from(["", "\n", "\r\n", "\n\n"]),
    start=st.sampled_from(["", "", "\ufeff", "\ufeff\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-8", "latin-1", "utf-16"]),
    switches=st.booleans(),
)
def test_any_table_is_the_same_by_blocks_of_any_size(
    lines: list[list[str]], end: str, last: str, start: str, encoding: str, switches: bool
) -> None:
    text = start + end.join(",".join(line) for line in [["path", "label", "who"], *lines]) + last
    with TemporaryDirectory() as name:
        root = Path(name)
        (root / "t.csv").write_bytes(text.encode(encoding, "replace"))
        with patch.object(reader, "columns_of", lambda *_: None):
            by_lines = outcome(root, switches)
        for size in (1, 20, 1 << 16):
            with patch.object(reader, "BLOCK", size):
                assert outcome(root, switches) == by_lines, size


def outcome(root: Path, switches: bool) -> Any:
    findings, cfg = Findings(), CsvConfig(train="t.csv", path="path", targets=("label",))
    try:
        table = read_table(root, "t.csv", cfg, findings, ["who"], switches)
    except DistTrainError as error:
        return str(error)
    return table, vars(findings)


def test_plain_blocks_are_not_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = "".join(f"p/{number}.png,{number % 3}\n" for number in range(200))
    (tmp_path / "t.csv").write_text(f"path,label\n{plain}\n{plain}")
    added: list[int] = []
    add = reader._Reading._add
    monkeypatch.setattr(reader._Reading, "_add", lambda self, row: (added.append(row.line), add(self, row)))
    monkeypatch.setattr(reader, "BLOCK", 500)
    table = read_table(tmp_path, "t.csv", CsvConfig(train="t.csv", targets=("label",)), Findings())
    assert len(table) == 400
    assert table.row(200).line == 203, "behind the blank line"
    assert 0 < len(added) < 80, "the block with the blank line only"


def test_equal_texts_are_kept_once(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"{number}.png,name\n" for number in range(40)))
    with patch.object(reader, "BLOCK", 100):
        table = read_table(tmp_path, "t.csv", CsvConfig(train="t.csv", targets=("label",)), Findings())
    assert len({id(text) for text in table.fields[0]}) == 1


def test_a_table_without_lines(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\n\n")
    with pytest.raises(DataError, match="has a header and no lines"):
        read_table(tmp_path, "t.csv", CsvConfig(train="t.csv", targets=("label",)), Findings())
