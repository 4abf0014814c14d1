"""Rows end up where they belong, once, after any number of restarts."""

import json
import math
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dist_train.loggers.console import describe_row
from dist_train.loggers.jsonl import JsonlSink
from dist_train.loggers.tensorboard import TensorBoardSink
from tests.support.ranks import run_ranks


def _row(step: int, split: str, loss: float) -> dict[str, object]:
    return {"step": step, "epoch": step / 10, "split": split, "loss": loss}


def _rows(path: Path) -> list[tuple[int, str, float]]:
    return [(row["step"], row["split"], row["loss"]) for row in map(json.loads, path.read_text().splitlines())]


def test_rows_beyond_the_checkpoint_are_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path, 0, -1)
    for step in (2, 4, 6):
        sink.row(_row(step, "train", float(step)))
    sink.row(_row(4, "val", 0.5))
    sink.close("failed", 1)
    with open(path, "ab") as file:
        file.write(b'\xff\0\0\n{"step": null, "split": "train"}\n')  # what a disk may leave after a power loss
        file.write(b'{"step": 8, "split": "tr')  # a kill cut this one short
    sink = JsonlSink(path, 4, -1)  # saved at 4, before the evaluation of step 4
    sink.row(_row(4, "val", 0.25))
    sink.close("done", 0)
    assert _rows(path) == [(2, "train", 2.0), (4, "train", 4.0), (4, "val", 0.25)]
    JsonlSink(path, 4, 4).close("done", 0)
    assert _rows(path) == [(2, "train", 2.0), (4, "train", 4.0), (4, "val", 0.25)]


def test_what_is_no_row_does_not_keep_a_run_from_coming_back(tmp_path: Path) -> None:
    """Somebody's edits, and what a power loss leaves of a page."""
    path = tmp_path / "metrics.jsonl"
    good = json.dumps(_row(2, "train", 2.0)).encode()
    path.write_bytes(b'{"step": 1}\n{"step": null, "split": "val"}\n\xff\xfe\x00\n7\n\n' + good + b"\n")
    JsonlSink(path, 4, -1).close("done", 0)
    assert path.read_bytes() == good + b"\n"


def test_numbers_survive_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path, 0, -1)
    sink.row(_row(1, "train", 0.1 + 0.2))
    sink.row(_row(2, "train", float("nan")))
    sink.close("done", 0)
    assert _rows(path)[0][2] == 0.1 + 0.2
    assert math.isnan(_rows(path)[1][2])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_every_step_once_after_a_resume(tmp_path: Path) -> None:
    first = TensorBoardSink(tmp_path, 0, [])
    for step in (2, 4, 6):
        first.row(_row(step, "train", float(step)))
    first.close("failed", 1)
    second = TensorBoardSink(tmp_path, 4, [_row(2, "train", 2.0), _row(4, "train", 4.0)])
    for step in (6, 8):
        second.row(_row(step, "train", float(step)))
    second.close("done", 0)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(2, 2), (4, 4), (6, 6), (8, 8)]


def _errors_on_a_full_disk(disk: Path) -> list[str]:
    sinks = JsonlSink(disk / "metrics.jsonl", 0, -1), TensorBoardSink(disk / "tensorboard", 0, [])
    with suppress(OSError), open(disk / "fill", "wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    errors = []
    for sink in sinks:
        try:
            for step in range(1000):
                sink.row(_row(step, "train", 0.5))
        except OSError as error:
            errors.append(str(error))
    return errors


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True
    ).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        [errors] = run_ranks(1, _errors_on_a_full_disk, tmp_path)
        full = "[Errno 28] No space left on device: "
        assert errors == [f"{full}'{tmp_path / name}'" for name in ("metrics.jsonl", "tensorboard")]
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_row_reads_well() -> None:
    row = {"step": 50, "epoch": 1.25, "split": "train", "loss": 0.123456, "images_per_s": 812.4, "data_wait": 0.031}
    text = describe_row(row, 400, eta_s=3725.0)
    assert text == "step 50/400  epoch 1.25  train  loss 0.1235  812 images/s  waited 3%  eta 1:02:05"
