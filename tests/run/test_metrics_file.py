"""The reader of ``metrics.jsonl``: half lines, damage, rewinding, long files."""

import json
from pathlib import Path

import pytest

from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import LONGEST_LINE, TAIL, RowFollower, last_step, live_step, parse_row, read_rows
from dist_train.run.result import Result, write_result


def lines(*steps: int, split: str = "train") -> bytes:
    return b"".join(json.dumps({"step": step, "split": split, "loss": 0.5}).encode() + b"\n" for step in steps)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0\0\0",
        b"\xff\xfe",
        b"7",
        b"[1]",
        b'{"step": 1}',
        b'{"step": null, "split": "val"}',
        b'{"step": true, "split": "val"}',
        b'{"step": 1e999, "split": "val"}',
        b'{"step": 1, "split": ["val"]}',
        b'{"step": 1, "split": "va',
        b"[" * 10_000,
    ],
)
def test_what_is_not_a_row_is_passed_over(path: Path, line: bytes) -> None:
    assert parse_row(line) is None
    path.write_bytes(lines(1) + line + b"\n" + lines(2))
    assert [row["step"] for row in read_rows(path)] == [1, 2]
    path.write_bytes(lines(1) + line)
    assert [row["step"] for row in read_rows(path)] == [1]
    assert last_step(path) == 1


def test_a_row_that_lost_only_the_end_of_its_line_counts(path: Path) -> None:
    path.write_bytes(lines(1, 2)[:-1])
    assert [row["step"] for row in read_rows(path)] == [1, 2]
    assert last_step(path) == 2


def test_no_file_has_no_rows_and_a_folder_in_its_place_is_an_error(path: Path) -> None:
    assert list(read_rows(path)) == []
    assert last_step(path) == 0
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        list(read_rows(path))


def test_a_line_without_end_takes_bounded_memory(path: Path) -> None:
    long = b'{"step": 5, "split": "train", "x": "' + b"a" * (2 * LONGEST_LINE) + b'"}\n'
    path.write_bytes(lines(1) + long + lines(2))
    assert [row["step"] for row in read_rows(path)] == [1, 2]
    path.write_bytes(lines(1) + bytes(3 * LONGEST_LINE))
    assert [row["step"] for row in read_rows(path)] == [1]


def test_the_last_step_is_found_from_the_end(path: Path) -> None:
    path.write_bytes(lines(*range(5000)))
    assert path.stat().st_size > 2 * TAIL
    assert last_step(path) == 4999


def test_a_run_is_as_far_as_the_furthest_of_its_files_says(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert live_step(run) == 0
    write_result(run, Result(step=10))
    assert live_step(run) == 10
    run.metrics.write_bytes(lines(12, 14) + b'{"step": 1')
    assert live_step(run) == 14


def test_a_follower_waits_for_the_rest_of_a_line(path: Path) -> None:
    whole = lines(1, 2, 3)
    path.write_bytes(whole[: len(lines(1, 2)) - 5])
    rows = RowFollower(path)
    assert [row["step"] for row in rows.take()] == [1]
    path.write_bytes(whole[: len(lines(1, 2)) - 1])  # whole, but for the end of the line
    assert [row["step"] for row in rows.take()] == [2]
    path.write_bytes(whole)
    assert [row["step"] for row in rows.take()] == [3]
    assert list(rows.take()) == []


def test_a_follower_begins_again_when_the_file_was_rewound(path: Path) -> None:
    path.write_bytes(lines(1, 2, 3))
    rows = RowFollower(path)
    assert [row["step"] for row in rows.take()] == [1, 2, 3]
    path.write_bytes(lines(1))
    assert [row["step"] for row in rows.take()] == [1]
