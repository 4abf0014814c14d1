"""Answers of SLURM that the test cluster cannot give."""

import time
from pathlib import Path

import pytest

from launch import scontrol


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that are found first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def answer(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_gpus_of_the_default_partition_count_where_none_is_named(tool: Path) -> None:
    answer(tool / "sinfo", "echo 'big gpu:h100:8(S:0-1)'; echo 'small* gpu:a100:4'; echo 'small* gpu:2,tmpfs:1'")
    assert scontrol.gpus_in_a_node(None) == 4
    answer(tool / "sinfo", "echo 'cpu* (null)'; echo 'gpu gpu:8'")
    assert scontrol.gpus_in_a_node(None) == 0
    answer(tool / "sinfo", "echo 'gpu gpu:h100:4,gpu:l4:2'")
    assert scontrol.gpus_in_a_node("gpu") == 6


def test_times_are_read_whatever_format_the_user_likes(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(2_000_000_000))
    answer(tool / "scontrol", f"[ $SLURM_TIME_FORMAT = standard ] && echo JobState=RUNNING EndTime={end}")
    assert scontrol.show_job("1").end_time == 2_000_000_000
