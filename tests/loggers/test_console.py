"""Rows fit a terminal, and never overlap the progress bar."""

import doctest
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import yaml

from dist_train.loggers import console
from dist_train.loggers.console import describe_row
from dist_train.system.terminal import CLOCK, COLUMNS
from tests.support.runs import changed

BAR = "10 ["
"""Stands in every progress bar of a run of 10 steps: ``3/10 [00:01<00:02, 2.9step/s]``."""
LONG = {"step": 123_456, "epoch": 123.45}
TRAIN = {
    **LONG,
    "split": "train",
    "loss": 0.00012345678,
    "lr": 0.00012345678,
    "grad_norm": 12345.678,
    "images_per_s": 123456.7,
    "data_wait": 0.123456,
    "data_wait_max": 0.123456,
    "slowest_rank": 127,
    "slowest_ratio": 1.2345,
    "gpu_mem_gb": 123.456,
    "loss_scale": 65536.0 * 2**10,
    "skipped_steps": 12345,
}
"""All columns that a training row can have, as long as they get."""
VAL = [
    {"loss": 0.00012345, "top1": 12.345678, "top5": 12.345678, "macro_f1": 12.345678, "seconds": 1234.5},
    {"loss": 0.00012345, "map": 12.345678, "macro_f1": 12.345678, "seconds": 1234.5},
    {"loss": 12345.678, "mae": 12345.678, "rmse": 12345.678, "r2": -1234567.8, "seconds": 1234.5},
]


def test_the_longest_rows_fit() -> None:
    for row in (TRAIN, *({**LONG, "split": "val", **scores} for scores in VAL)):
        for eta_s in (None, 86400 * 12.5):
            text = describe_row(row, 1_234_567, eta_s)
            assert len(CLOCK) + len(text) <= COLUMNS, text
            assert "loss" in text
            assert ("eta 12 days, 12:00:00" in text) == (eta_s is not None)


def test_all_scores_of_an_evaluation_are_shown() -> None:
    for scores in VAL:
        text = describe_row({**LONG, "split": "val", **scores}, 1_234_567, None)
        assert [name for name in scores if name != "seconds" and name not in text] == []


def test_a_row_reads_well() -> None:
    row = {
        "step": 50,
        "epoch": 1.25,
        "split": "train",
        "loss": 0.123456,
        "lr": 0.1,
        "images_per_s": 812.4,
        "data_wait": 0.31,
    }
    text = describe_row(row, 400, eta_s=3725.0)
    assert text == "step 50/400 epoch 1.25 train loss 0.1235 lr 0.1 812 img/s wait 31% eta 1:02:05"
    assert "wait" not in describe_row(row | {"data_wait": 0.01}, 400, None)


def test_columns_of_an_objective_come_before_the_machines() -> None:
    row = {"step": 1, "epoch": 1.0, "split": "train", "loss": 1.0, "lr": 0.1, "grad_norm": 1.0, "distill_loss": 0.5}
    assert describe_row(row, 9, None) == "step 1/9 epoch 1.00 train loss 1 distill_loss 0.5 lr 0.1 grad 1"


def test_the_examples() -> None:
    assert doctest.testmod(console).failed == 0


def on_a_terminal(command: list[str], env: dict[str, str]) -> bytes:
    """All that a command writes to a terminal of 120 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        seen += data
    os.close(ours)
    assert process.wait() == 0, seen.decode()
    return seen


def screen(output: str) -> list[str]:
    """The lines that a person sees in the end: a carriage return goes back, what follows is written over the rest."""
    lines, line, column = [], "", 0
    for part in re.findall(r"\x1b\[K|\r|\n|[^\r\n\x1b]+", output.replace("\x1b[A", "")):
        if part == "\r":
            column = 0
        elif part == "\n":
            lines.append(line.rstrip())
            line, column = "", 0
        elif part == "\x1b[K":
            line = line[:column]
        else:
            line = line[:column] + part + line[column + len(part) :]
            column += len(part)
    return [*lines, line]


def test_messages_never_land_on_the_progress_bar(tree: dict[str, Any], tmp_path: Path) -> None:
    """Rows, warnings of a logger and W&B's words, while a bar is shown."""
    own = [{"name": "tests.support.loggers:Broken", "options": {"method": "row"}}]
    tree = changed(tree, log__loggers=own, log__wandb={"mode": "online"}, log__every_steps=1)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "dist_train", "--config", str(tmp_path / "run.yaml")]
    away = {"HOME": str(tmp_path), "WANDB_API_KEY": "", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    lines = screen(on_a_terminal(command, os.environ | away).decode())
    bars = [line for line in lines if BAR in line]
    words = [line for line in lines if "step 1/10" in line or "W&B: offline" in line or "Broken failed" in line]
    assert len(words) == 3, lines
    assert bars, "there was a bar"
    for line in words:
        assert re.match(r"\d\d:\d\d:\d\d |W&B: ", line), line
        assert BAR not in line, line
    assert not [line for line in bars if re.search(r"loss|W&B|failed", line)]
