"""Answers of SLURM that the test cluster cannot give."""

import time
from pathlib import Path

import pytest

from launch.scheduler import scontrol


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that are found first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def answer(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_times_are_read_whatever_format_the_user_likes(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(2_000_000_000))
    answer(tool / "scontrol", f"[ $SLURM_TIME_FORMAT = standard ] && echo JobState=RUNNING EndTime={end}")
    assert scontrol.show_job("1").end_time == 2_000_000_000


@pytest.mark.parametrize(
    ("shown", "seconds"),
    [("RunTime=00:01:15", 75.0), ("RunTime=1-02:00:03", 93603.0), ("RunTime=INVALID", None), ("", None)],
)
def test_how_long_a_job_has_run(tool: Path, shown: str, seconds: float | None) -> None:
    answer(tool / "scontrol", f"echo JobState=RUNNING {shown}")
    assert scontrol.show_job("1").ran_s == seconds


@pytest.mark.parametrize(
    ("shown", "preempted"),
    [
        ("JobState=RUNNING PreemptTime=None", False),
        ("JobState=RUNNING PreemptTime=2026-11-27T12:00:00", True),
        ("JobState=PENDING PreemptTime=2026-11-27T12:00:00", False),  # of the start before
    ],
)
def test_whether_this_start_is_preempted(tool: Path, shown: str, preempted: bool) -> None:
    answer(tool / "scontrol", f"echo {shown}")
    assert scontrol.show_job("1").preempted is preempted


@pytest.mark.parametrize(
    ("state", "over", "waiting"),
    [
        ("COMPLETED", True, False),
        ("NODE_FAIL", True, False),
        ("DEADLINE", True, False),
        ("RUNNING", False, False),
        ("SUSPENDED", False, False),
        ("STAGE_OUT", False, False),
        ("REQUEUE_HOLD", False, True),
        ("SPECIAL_EXIT", False, True),
        ("A_STATE_OF_A_LATER_SLURM", False, False),
        (scontrol.UNKNOWN, False, False),
    ],
)
def test_only_the_final_states_are_over(tool: Path, state: str, over: bool, waiting: bool) -> None:
    answer(tool / "scontrol", f"echo JobState={state} Reason=Resources")
    job = scontrol.show_job("1")
    assert (job.over, job.waiting) == (over, waiting)
    assert job.why_waiting == (" (Resources)" if waiting else "")


def test_a_forgotten_job_is_not_asked_for_again(tool: Path) -> None:
    answer(tool / "scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    began = time.monotonic()
    assert scontrol.show_job_surely("1").state == scontrol.FORGOTTEN
    assert time.monotonic() - began < 10
    answer(tool / "scontrol", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert scontrol.show_job("1").state == scontrol.UNKNOWN


def test_the_release_is_a_pair_of_numbers(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(tool / "scontrol", "echo slurm-wlm 24.11.5")
    assert scontrol.version() == (24, 11)
    monkeypatch.setenv("PATH", "/nowhere")
    assert scontrol.version() == (0, 0)


def test_nodes_are_excluded_besides_those_that_are_already(tool: Path) -> None:
    """SLURM refuses while the job counts as running; ``ExcNodeList`` of a job in the queue replaces the old one."""
    answer(
        tool / "scontrol",
        f"[ $1 = show ] && echo JobState=PENDING ExcNodeList=n7 && exit 0\necho $* >> {tool}/said\n"
        f"[ $(wc -l < {tool}/said) -lt 3 ] && echo 'Job is no longer pending execution' >&2; exit 0",
    )
    assert scontrol.exclude("5_1", ["n1", "n2"]) == ""
    assert (tool / "said").read_text() == 3 * "update JobId=5_1 ExcNodeList=n7,n1,n2\n"
    (tool / "said").unlink()
    assert scontrol.exclude("5", ["n1"], patience_s=0) == "Job is no longer pending execution"


@pytest.mark.parametrize(
    ("state", "started", "lost"),
    [("ALLOCATED", -60, False), ("ALLOCATED", 60, True), ("DOWN", -60, True), ("IDLE+NOT_RESPONDING", -60, True)],
)
def test_a_node_that_has_started_since_was_lost(tool: Path, state: str, started: int, lost: bool) -> None:
    since = 2_000_000_000.0
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since + started))
    answer(tool / "scontrol", f"echo NodeName=n1 State=IDLE; echo NodeName=n2 State={state} SlurmdStartTime={stamp}")
    assert scontrol.lost_nodes("n[1-2]", since) == ["n2"] * lost
    assert scontrol.lost_nodes("", since) == []
