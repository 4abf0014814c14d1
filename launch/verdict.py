"""Decide what to do when the workers of a start have ended: a pure function of the facts."""

from dataclasses import dataclass, field
from typing import Any, Literal

from launch.starts import History

HOPELESS = ("config", "data", "oom", "nonfinite")
"""Errors that come again whenever the same command runs."""

Action = Literal["done", "requeue", "leave", "fail"]


@dataclass(frozen=True)
class Facts:
    """What a supervisor knows at the end of a start."""

    result: dict[str, Any]
    """``result.json`` if a worker of this start wrote it, else empty."""
    history: History
    job_state: str = "RUNNING"
    preempted: bool = False
    signals: list[str] = field(default_factory=list)
    walltime: bool = False
    """SLURM was about to end the job for its walltime."""
    agent_code: int = 0
    requeues: int = 0
    max_requeues: int = 0
    slurm: bool = True


@dataclass(frozen=True)
class Verdict:
    """An action, and the reason for people."""

    action: Action
    why: str


def judge(facts: Facts) -> Verdict:
    """Return what to do: done, requeue, leave it to SLURM, or fail."""
    status, error = facts.result.get("status"), facts.result.get("error")
    step = facts.result.get("step", 0)
    if status == "done":
        return Verdict("done", f"done at step {step}")
    if status == "failed" and error in HOPELESS:
        return Verdict("fail", f"{error} error at step {step}, which would come again: {facts.result.get('message')}")
    if facts.slurm and facts.job_state not in ("RUNNING", "UNKNOWN"):
        # UNKNOWN: SLURM does not answer; then the attempt to requeue fails, and says so. After scancel a requeue would
        # bring the job back to life; after `scontrol requeue` SLURM requeues it itself.
        saved = f"stopped at step {step}" if status == "stopped" else "ended"
        return Verdict("leave", f"{saved}; cancelled, or requeued already (job is {facts.job_state})")
    verdict = _interrupted(facts) or _crashed(facts)
    if verdict.action == "requeue" and facts.requeues >= facts.max_requeues:
        return Verdict(
            "fail", f"{verdict.why}, but it has been requeued {facts.requeues} times already (--max-requeues)"
        )
    return verdict


def _interrupted(facts: Facts) -> Verdict | None:
    """Return the verdict if the run was asked to stop; None if it ended by itself."""
    stopped = facts.result.get("status") == "stopped"
    step = facts.result.get("step", 0)
    if not facts.slurm and facts.signals:
        return Verdict("leave", f"stopped by {facts.signals[0]} at step {step}; the same command continues")
    if stopped and not facts.preempted and step == facts.history.stopped_at:
        return Verdict(
            "fail", f"stopped at step {step}, where it had begun: give it more --time, or a smaller --signal-delay"
        )
    cause = (
        "preemption"
        if facts.preempted
        else "the end of its walltime"
        if facts.walltime
        else "a signal or its own limit"
    )
    if stopped:
        return Verdict("requeue", f"stopped by {cause} at step {step}")
    if facts.preempted:
        return Verdict("requeue", "preempted before it could save")
    if facts.walltime and (facts.history.progressed or facts.history.progressed_before):
        return Verdict("requeue", "at its walltime before it could save")
    return None


def _crashed(facts: Facts) -> Verdict:
    """Return the verdict if something broke."""
    failed = facts.result.get("status") == "failed"
    what = f"{facts.result['error']} error: {facts.result['message']}" if failed else _death(facts)
    if facts.history.progressed:
        return Verdict("requeue", f"{what}; there was progress since the last start")
    if not failed and facts.history.progressed_before:
        return Verdict("requeue", f"{what}; no progress since the last start, one more try")
    return Verdict("fail", f"{what}; no progress since the last start, so another would end the same")


def _death(facts: Facts) -> str:
    if facts.agent_code < 0:
        return f"the torchrun agent died by signal {-facts.agent_code}"
    after = f" after {facts.signals[0]}" if facts.signals else ""
    return f"workers died without a word{after}: killed, or a node was lost"
