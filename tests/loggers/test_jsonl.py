"""``metrics.jsonl`` has each row once, after any number of restarts."""

import json
import math
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dist_train.loggers.base import Facts
from dist_train.loggers.jsonl import JsonlLogger
from dist_train.run.folder import RunDir
from tests.support.ranks import run_ranks

UNUSED: Any = None


def opened(folder: Path, step: int = 0, evaluated: int = -1) -> JsonlLogger:
    logger = JsonlLogger()
    logger.start(UNUSED, Facts(RunDir(folder), total_steps=10, step=step, evaluated=evaluated))
    return logger


def _row(step: int, split: str, loss: float) -> dict[str, Any]:
    return {"step": step, "epoch": step / 10, "split": split, "loss": loss}


def _rows(folder: Path) -> list[tuple[int, str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["split"], row["loss"]) for row in map(json.loads, lines)]


def test_rows_beyond_the_checkpoint_are_taken_back(tmp_path: Path) -> None:
    logger = opened(tmp_path)
    for step in (2, 4, 6):
        logger.row(_row(step, "train", float(step)))
    logger.row(_row(4, "val", 0.5))
    logger.close("failed")
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'\xff\0\0\n{"step": null, "split": "train"}\n')  # what a disk may leave after a power loss
        file.write(b'{"step": 8, "split": "tr')  # a kill cut this one short
    logger = opened(tmp_path, 4, -1)  # saved at 4, before the evaluation of step 4
    logger.row(_row(4, "val", 0.25))
    logger.close("done")
    assert _rows(tmp_path) == [(2, "train", 2.0), (4, "train", 4.0), (4, "val", 0.25)]
    opened(tmp_path, 4, 4).close("done")
    assert _rows(tmp_path) == [(2, "train", 2.0), (4, "train", 4.0), (4, "val", 0.25)]


def test_numbers_survive(tmp_path: Path) -> None:
    logger = opened(tmp_path)
    logger.row(_row(1, "train", 0.1 + 0.2))
    logger.close("done")
    assert _rows(tmp_path)[0][2] == 0.1 + 0.2


def test_a_number_that_json_does_not_have_is_null(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "split": "val", "epoch": 0.1, "loss": NaN}\n'
    )  # of version 0.1
    logger = opened(tmp_path, 1, 1)
    for loss in (math.nan, math.inf, -math.inf):
        logger.row(_row(2, "train", loss))
    logger.close("done")
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert _rows(tmp_path) == [(1, "val", None), *[(2, "train", None)] * 3]


def _error_on_a_full_disk(disk: Path) -> str:
    logger = opened(disk)
    with suppress(OSError), open(disk / "fill", "wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    try:
        for step in range(1000):
            logger.row(_row(step, "train", 0.5))
    except OSError as error:
        return str(error)
    return "no error"


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        [error] = run_ranks(1, _error_on_a_full_disk, tmp_path)
        assert error == f"[Errno 28] No space left on device: '{tmp_path / 'metrics.jsonl'}'"
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
