"""Made-up tables and folders: each is read as an independent reader reads it, or refused by line or name.

The independent readers are pandas' python engine for tables, and a few lines over ``os.walk`` for folders.
"""

import io
import os
import re
import tempfile
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dist_train.config.sections.data import DataConfig
from dist_train.data.index import DataIndex, scan
from dist_train.errors import DistTrainError
from tests.support.data_roots import data_config

FILES = [f"im/{number}.png" for number in range(8)]

few = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
many = settings(few, max_examples=2000)


# tables


def cells(values: list[str]) -> st.SearchStrategy[str]:
    """A value as people write it: right, quoted, badly quoted, with separators, line breaks and odd characters."""
    text = st.one_of(
        st.sampled_from(values),
        st.sampled_from(["a", "b", "Cat", "cat", "01", "1", "1.0", "nan", "NA", "", " ", "é", unicodedata.normalize("NFD", "é")]),
        st.text(alphabet='ab1,;|"\n\r\t \\\'\0é.-_', max_size=5),
    )  # fmt: skip
    return st.one_of(text, text, text.map(lambda value: '"' + value.replace('"', '""') + '"'), text.map('"{}'.format))


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, str]:
    """A table of two or three columns, most of whose lines are right, and its separator."""
    header = draw(st.sampled_from([["path", "label"], ["path", "label", "who"], ["who", "label", "path"]]))
    separator, end = draw(st.sampled_from([",", ",", ";"])), draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    usual = {"path": FILES, "label": ["a", "b", "c"], "who": ["x", "y"]}
    lines = [separator.join(header)]
    for place in range(draw(st.integers(2, 10))):
        if draw(st.integers(0, 5)):
            fields = [FILES[place % 8] if name == "path" else draw(st.sampled_from(usual[name])) for name in header]
        else:
            fields = [draw(cells(usual[name])) for name in header]
            fields = fields[: draw(st.sampled_from([1, 2, 3, 3, 3, 3]))] + draw(st.lists(cells(["z"]), max_size=1))
        lines.append(separator.join(fields))
    return end.join(lines) + draw(st.sampled_from(["", end, end + end])), separator


def pandas_rows(text: str, separator: str) -> list[tuple[str, str]] | None:
    """Path and label of each row, as pandas' python engine reads them; None if it finds a row too long or broken."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            frame = pandas.read_csv(
                io.StringIO(text, newline=""), engine="python", sep=separator, dtype=str, keep_default_na=False,
                na_filter=False, index_col=False,
            )  # fmt: skip
        pairs: list[tuple[Any, Any]] = list(zip(frame["path"], frame["label"], strict=True))
    except (ValueError, KeyError, pandas.errors.ParserWarning):
        return None
    return [tuple(value.strip() if isinstance(value, str) else "" for value in pair) for pair in pairs]  # type: ignore[misc]


def read(cfg: DataConfig) -> tuple[DataIndex | None, str]:
    """The index, or the refusal. Any other error fails the test."""
    try:
        return scan(cfg), ""
    except DistTrainError as error:
        return None, str(error)


def table_is_read_or_refused(text: str, separator: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "im").mkdir()
        for file in FILES:
            (root / file).touch()
        (root / "train.csv").write_bytes(text.encode())
        (root / "val.csv").write_text(f"path{separator}label\nim/0.png{separator}a\n")
        index, refusal = read(data_config(root, format="csv", csv={"separator": separator}))
    if index is None:
        assert re.search(r"train.csv( line \d| has )|a single class|val.csv line 2 has class 'a'", refusal), refusal
        assert len(refusal) < 3000
        return
    rows = pandas_rows(text, separator)
    assert rows is not None, "pandas refuses this table"
    found = sorted((index.train.name(place), index.classes[label]) for place, label in enumerate(index.train.labels))
    assert found == sorted(rows)
    assert set(index.classes) == {label for _, label in rows}, "never fewer labels"


@example(("path,label\nim/0.png,a,b\nim/1.png,b\n", ","))
@example(('path,label\nim/0.png,"a\nim/1.png,b"\n', ","))
@example(("path;label;who\nim/0.png;a\nim/1.png;b;x\n", ";"))
@given(tables())
@few
def test_a_made_up_table_is_read_as_pandas_reads_it_or_refused(table: tuple[str, str]) -> None:
    table_is_read_or_refused(*table)


@pytest.mark.slow
@given(tables())
@many
def test_many_made_up_tables(table: tuple[str, str]) -> None:
    table_is_read_or_refused(*table)


# folders

NAMES = [*"abcdefgh", "Cat", "cat", "test", "val", "seg_train", "seg_test", "results", "@eaDir", ".hidden", "café",
         unicodedata.normalize("NFD", "café"), "two words", "new\nline", "train"]  # fmt: skip
LEAVES = ["1.png", "2.jpg", "3.heic", "noname", ".hidden.png", "Thumbs.db", "é.PNG", "new\nline.png"]

Tree = dict[str, Any]
"""Name -> tree; None for a file; a string for a link."""


def trees(depth: int) -> st.SearchStrategy[Tree]:
    more = st.dictionaries(st.sampled_from(LEAVES), st.none(), max_size=3)
    files = st.one_of(more, *[more.map(lambda tree: {"3.png": None, "4.png": None, **tree})] * 3)
    if depth == 0:
        return files
    inner = st.dictionaries(
        st.sampled_from(NAMES), st.one_of(files, files, files, trees(depth - 1)), min_size=1, max_size=4
    )
    links = st.dictionaries(
        st.sampled_from(["link", "other"]), st.sampled_from(["a", "b", "../a", ".", "nowhere"]), max_size=1
    )
    return st.tuples(inner, links, st.one_of(st.just({}), st.just({}), more)).map(
        lambda parts: {**parts[0], **parts[1], **parts[2]}
    )


def build(tree: Tree, place: Path) -> None:
    place.mkdir()
    for name, inner in tree.items():
        if inner is None:
            (place / name).write_bytes(b"x")
        elif isinstance(inner, str):
            (place / name).symlink_to(inner)
        else:
            build(inner, place / name)


def visible_images(folder: Path) -> set[str]:
    """Paths of the images below a folder, through links, without hidden ones."""
    found = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found |= {
            os.path.join(place, name) for name in files if name.lower().endswith((".png", ".jpg")) and name[0] != "."
        }
    return found


def check_folder(index: DataIndex, root: Path, train: Path) -> None:
    """Every image below a class folder is in the index once, under its folder's name, and nothing else is."""
    found = {index.train.name(place): index.classes[label] for place, label in enumerate(index.train.labels)}
    found |= {index.val.name(place): index.classes[label] for place, label in enumerate(index.val.labels)}
    classes = {folder.name: folder for folder in train.iterdir() if folder.is_dir() and folder.name[0] != "."}
    expected = {
        os.path.relpath(path, root): name for name, folder in classes.items() for path in visible_images(folder)
    }
    assert found == expected
    assert set(index.classes) == set(classes), "never fewer classes"
    assert not {"test", "val", "train"} & set(classes), "no split is a class"
    assert not any("@eaDir" in path for path in expected)
    left = sum(
        not name.lower().endswith((".png", ".jpg")) and name[0] != "." and name != "Thumbs.db"
        for folder in classes.values()
        for place, _, files in os.walk(folder, followlinks=True)
        if "/." not in place.removeprefix(str(train))
        for name in files
    )
    assert bool(left) == any(re.search(r"files? in \d+ class", note) for note in index.notes)


def folder_is_read_or_refused(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "root")
        build(tree, root)
        index, refusal = read(data_config(root, val_fraction=0.5))
        if index is None:
            assert str(root) in refusal
            assert len(refusal) < 3000
            return
        check_folder(index, root, root / "train" if (root / "train").is_dir() else root)


@example({"a": {"1.png": None, "2.jpg": None}, "b": {"1.png": None, "2.jpg": None, "3.heic": None}})
@example({"a": {"1.png": None, "2.jpg": None}, "b": {"1.png": None}, "test": {"a": {"1.png": None}}})
@given(trees(2))
@few
def test_a_made_up_folder_is_read_whole_or_refused(tree: Tree) -> None:
    folder_is_read_or_refused(tree)


@pytest.mark.slow
@given(trees(2))
@many
def test_many_made_up_folders(tree: Tree) -> None:
    folder_is_read_or_refused(tree)
