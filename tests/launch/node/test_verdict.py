"""The decision after every kind of end of a start."""

import pytest

from launch.node.verdict import Facts, hopeless, judge, judge_again
from launch.runs.starts import History

MOVED, IDLE, IDLE_AGAIN = History(True, True, None), History(False, True, None), History(False, False, None)


def result(status: str, error: str | None = None, step: int = 7) -> dict[str, object]:
    return {"status": status, "error": error, "message": "why", "step": step, "attempt": 1}


CASES = {
    "done": (Facts(result("done"), MOVED, signals=["SIGTERM"]), "done"),
    "done even though SLURM ends the job": (Facts(result("done"), MOVED, job_state="COMPLETING"), "done"),
    "preempted and saved": (
        Facts(result("stopped"), MOVED, preempted=True, signals=["SIGTERM"], max_requeues=9),
        "requeue",
    ),
    "preempted twice at one step": (
        Facts(result("stopped"), History(False, False, 7), preempted=True, max_requeues=9),
        "requeue",
    ),
    "stopped where it began": (
        Facts(result("stopped"), History(False, True, 7), walltime=True, max_requeues=9),
        "fail",
    ),
    "stopped by its own limit": (Facts(result("stopped"), MOVED, max_requeues=9), "requeue"),
    "preempted, not saved": (Facts({}, IDLE_AGAIN, preempted=True, agent_code=-9, max_requeues=9), "requeue"),
    "walltime, not saved": (Facts(result("running"), MOVED, walltime=True, agent_code=-9, max_requeues=9), "requeue"),
    "paused": (Facts(result("stopped") | {"paused": True}, History(False, False, 7), max_requeues=9), "done"),
    "scancel": (Facts(result("stopped"), MOVED, job_state="COMPLETING", signals=["SIGTERM"], max_requeues=9), "leave"),
    "scancel before it saved": (Facts(result("running"), MOVED, job_state="COMPLETING", max_requeues=9), "leave"),
    "SLURM does not answer": (Facts(result("stopped"), MOVED, job_state="UNKNOWN", max_requeues=9), "requeue"),
    "lost rank, progress": (Facts(result("failed", "comm"), MOVED, agent_code=1, max_requeues=9), "requeue"),
    "lost rank, no progress": (Facts(result("failed", "comm"), IDLE, agent_code=1, max_requeues=9), "fail"),
    "bug, progress": (Facts(result("failed", "other"), MOVED, agent_code=1, max_requeues=9), "requeue"),
    "bug, no progress": (Facts(result("failed", "other"), IDLE, agent_code=1, max_requeues=9), "fail"),
    "killed, progress": (Facts(result("running"), MOVED, agent_code=1, max_requeues=9), "requeue"),
    "killed, first time without progress": (Facts({}, IDLE, agent_code=-9, max_requeues=9), "requeue"),
    "killed, again without progress": (Facts({}, IDLE_AGAIN, agent_code=-9, max_requeues=9), "fail"),
    "a node lost before it began": (Facts({}, IDLE_AGAIN, outside="lost n2", max_requeues=9), "requeue"),
    "nodes lost before they began, too often": (Facts({}, IDLE, outside="lost n2", requeues=9, max_requeues=9), "fail"),
    "stopped, then srun failed": (Facts(result("stopped"), MOVED, outside="lost n2", max_requeues=9), "requeue"),
    "requeued often enough": (Facts(result("stopped"), MOVED, preempted=True, requeues=9, max_requeues=9), "fail"),
    "interrupted by hand, without SLURM": (Facts(result("stopped"), MOVED, signals=["SIGINT"], slurm=False), "leave"),
    "crashed without SLURM": (Facts(result("running"), MOVED, agent_code=1, max_requeues=9, slurm=False), "requeue"),
}


@pytest.mark.parametrize("case", CASES)
def test_action(case: str) -> None:
    facts, action = CASES[case]
    verdict = judge(facts)
    assert verdict.action == action, verdict.why
    assert verdict.why


@pytest.mark.parametrize("error", ["config", "data", "oom", "nonfinite"])
def test_an_error_that_would_come_again_is_final(error: str) -> None:
    facts = Facts(result("failed", error), MOVED, preempted=True, signals=["SIGTERM"], max_requeues=9)
    verdict = judge(facts)
    assert verdict.action == "fail"
    assert error in verdict.why
    assert "why" in verdict.why


def test_out_of_memory_goes_on_with_a_smaller_batch() -> None:
    failed = result("failed", "oom") | {"next_micro_batch": 4}
    verdict = judge(Facts(failed, IDLE_AGAIN, max_requeues=9))
    assert (verdict.action, "goes on with train.micro_batch=4" in verdict.why) == ("requeue", True)
    assert not hopeless(failed)
    assert hopeless(result("failed", "oom"))


def test_a_start_after_the_end_repeats_its_verdict() -> None:
    assert judge_again({"verdict": "done", "why": "done at step 9"}, "7").action == "done"
    again = judge_again({"verdict": "fail", "why": "oom error", "restart": 2}, "7")
    assert again.action == "fail"
    assert again.why.startswith("oom error (in start 2;")
    assert "scontrol requeue 7" in again.why


def test_named_nodes_are_exchanged_where_that_is_possible() -> None:
    bad = result("failed", "node")
    verdict = judge(Facts(bad, IDLE, agent_code=1, max_requeues=9, exclude=("n3",)))
    assert (verdict.action, verdict.exclude, verdict.details) == ("requeue", ("n3",), {"excluded": ["n3"]})
    assert judge(Facts(bad, IDLE, agent_code=1, max_requeues=9)).action == "fail"
    assert judge(Facts(bad, IDLE, job_state="COMPLETING", exclude=("n3",))).action == "leave"
    last = judge(Facts(bad, IDLE, requeues=9, max_requeues=9, exclude=("n3",)))
    assert (last.action, last.exclude) == ("fail", ())
