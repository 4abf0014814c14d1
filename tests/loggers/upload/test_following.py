"""What both uploaders share: new rows of a file that grows, and an end in bounded time."""

import json
import subprocess
import sys
from pathlib import Path

from dist_train.errors import EXIT_INCOMPLETE
from dist_train.loggers.upload.following import NewRows


def lines(*steps: int) -> bytes:
    return b"".join(json.dumps({"step": step, "split": "train"}).encode() + b"\n" for step in steps)


def test_half_a_line_waits_for_its_rest(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = lines(1, 2)
    path.write_bytes(whole[:-5])
    rows = NewRows(path, {})
    assert [row["step"] for row in rows.take()] == [1]
    path.write_bytes(whole)
    assert [row["step"] for row in rows.take()] == [2]


def test_a_rewound_file_brings_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(1, 2, 3))
    rows = NewRows(path, {"train": 1})
    assert [row["step"] for row in rows.take()] == [2, 3]
    path.write_bytes(lines(1))
    assert list(rows.take()) == []
    path.write_bytes(lines(1, 2, 3, 4))
    assert [row["step"] for row in rows.take()] == [4]


def test_damage_and_absence_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert list(NewRows(path, {}).take()) == []
    path.write_bytes(b"\0\0garbage\n[1]\n" + lines(7))
    assert [row["step"] for row in NewRows(path, {}).take()] == [7]


def test_what_takes_too_long_ends_the_process_with_a_sentence() -> None:
    script = (
        "import time; from dist_train.loggers.upload.following import at_most\n"
        "with at_most(0.1, print, 'Do this.'): time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-uc", script], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (EXIT_INCOMPLETE, "not everything was uploaded within 0 s. Do this.\n")
