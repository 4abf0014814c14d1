"""Decide what to do when the workers of a start have ended: a pure function of the facts."""

from dataclasses import dataclass, field
from typing import Any, Literal

from launch.runs.starts import History

HOPELESS = ("config", "data", "oom", "nonfinite")
"""Errors that the same command always meets again. Out of memory is no such error where the next start uses a smaller batch."""

Action = Literal["done", "requeue", "leave", "fail"]


@dataclass(frozen=True)
class Facts:
    """The facts that a supervisor knows at the end of a start."""

    result: dict[str, Any]
    """Content of ``result.json`` if a worker of this start wrote it, else empty."""
    history: History
    job_state: str = "RUNNING"
    preempted: bool = False
    signals: list[str] = field(default_factory=list)
    walltime: bool = False
    """SLURM was about to end the job at its time limit."""
    agent_code: int = 0
    outside: str = ""
    """What SLURM lost: a cause that says nothing of the run."""
    requeues: int = 0
    max_requeues: int = 0
    slurm: bool = True
    exclude: tuple[str, ...] = ()
    """Nodes that the preflight has named, if the job may be started without them."""


@dataclass(frozen=True)
class Verdict:
    """An action, and its reason in words."""

    action: Action
    why: str
    exclude: tuple[str, ...] = ()
    """Nodes that the next start must not have."""

    @property
    def details(self) -> dict[str, list[str]]:
        """What ``starts.json`` keeps besides action and reason."""
        return {"excluded": list(self.exclude)} if self.exclude else {}


def judge(facts: Facts) -> Verdict:
    """Return what to do: done, requeue, leave it to SLURM, or fail."""
    status, step = facts.result.get("status"), facts.result.get("step", 0)
    if status == "done":
        return Verdict("done", f"done at step {step}")
    if status == "stopped" and facts.result.get("paused"):
        return Verdict("done", f"paused at step {step} (train.pause_epoch)")
    if hopeless(facts.result):
        error = facts.result["error"]
        return Verdict(
            "fail", f"{error} error at step {step}, which another start cannot solve: {facts.result.get('message')}"
        )
    if facts.slurm and facts.job_state not in ("RUNNING", "UNKNOWN"):
        # After scancel, a requeue would start the cancelled job again; after `scontrol requeue`, SLURM requeues it itself.
        # UNKNOWN: SLURM does not answer; then our requeue fails too, with a message.
        saved = f"stopped at step {step}" if status == "stopped" else "ended"
        return Verdict("leave", f"{saved}; cancelled, or requeued already (job is {facts.job_state})")
    verdict = _exchanged(facts) or _interrupted(facts) or _smaller(facts) or _lost(facts) or _crashed(facts)
    if verdict.action == "requeue" and facts.requeues >= facts.max_requeues:
        return Verdict(
            "fail", f"{verdict.why}, but the job was already requeued {facts.requeues} times (--max-requeues)"
        )
    return verdict


def hopeless(result: dict[str, Any]) -> bool:
    """Return whether a run has failed in such a way that the same command would fail again."""
    return result.get("status") == "failed" and result.get("error") in HOPELESS and not result.get("next_micro_batch")


def _smaller(facts: Facts) -> Verdict | None:
    """Return the verdict after out of memory, if the next start uses a smaller micro-batch."""
    images = facts.result.get("next_micro_batch")
    if facts.result.get("status") != "failed" or not images:
        return None
    return Verdict(
        "requeue", f"out of memory at step {facts.result.get('step', 0)}; goes on with train.micro_batch={images}"
    )


def judge_again(last: dict[str, Any], job_id: str) -> Verdict:
    """Return the verdict of a start after the one that ended the run, which is ``last`` in ``starts.json``."""
    if last["verdict"] == "done":
        return Verdict("done", "the run is done already; SLURM has started the job once more")
    return Verdict(
        "fail",
        f"{last['why']} (in start {last['restart']}; SLURM has started the job once more after its preemption; "
        f"to try again, solve the error, then: scontrol requeue {job_id})",
    )


def named_nodes(result: dict[str, Any]) -> bool:
    """Return whether the preflight has named nodes, on which a restart of the workers would fail in the same way."""
    return result.get("status") == "failed" and result.get("error") == "node"


def _exchanged(facts: Facts) -> Verdict | None:
    """Return the verdict after a preflight that has named nodes; None otherwise."""
    if not named_nodes(facts.result):
        return None
    why = str(facts.result.get("message"))
    if facts.exclude:
        return Verdict("requeue", f"{why}; asking SLURM for nodes other than {','.join(facts.exclude)}", facts.exclude)
    return Verdict("fail", why)


def _interrupted(facts: Facts) -> Verdict | None:
    """Return the verdict if SLURM or a signal stopped the run; None otherwise."""
    stopped = facts.result.get("status") == "stopped"
    step = facts.result.get("step", 0)
    if not facts.slurm and facts.signals:
        return Verdict("leave", f"stopped by {facts.signals[0]} at step {step}; the same command resumes the run")
    if stopped and not facts.preempted and step == facts.history.stopped_at:
        return Verdict(
            "fail", f"stopped at step {step}, where this start began; use a longer --time or a smaller --signal-delay"
        )
    cause = (
        "preemption"
        if facts.preempted
        else "the time limit of the job"
        if facts.walltime
        else "a signal or its own limit"
    )
    if stopped:
        return Verdict("requeue", f"stopped by {cause} at step {step}")
    if facts.preempted:
        return Verdict("requeue", "preempted before it could save")
    if facts.walltime and (facts.history.progressed or facts.history.progressed_before):
        return Verdict("requeue", "reached the time limit before it could save")
    return None


def _lost(facts: Facts) -> Verdict | None:
    """Return the verdict if SLURM lost a node: progress does not matter."""
    return Verdict("requeue", facts.outside) if facts.outside else None


def _crashed(facts: Facts) -> Verdict:
    """Return the verdict after an error or a crash."""
    failed = facts.result.get("status") == "failed"
    what = f"{facts.result['error']} error: {facts.result['message']}" if failed else _death(facts)
    if facts.history.progressed:
        return Verdict("requeue", f"{what}; this start made progress")
    if not failed and facts.history.progressed_before:
        return Verdict("requeue", f"{what}; this start made no progress; trying once more")
    return Verdict("fail", f"{what}; this start made no progress, so another would fail in the same way")


def _death(facts: Facts) -> str:
    if facts.agent_code < 0:
        return f"signal {-facts.agent_code} killed the agent of the workers"
    after = f" after {facts.signals[0]}" if facts.signals else ""
    return f"workers died without an error message{after}: they were killed, or a node was lost"
