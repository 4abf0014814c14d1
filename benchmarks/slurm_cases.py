"""The failures of the fault table: what happens to a run, and how its job must end. ``slurm_faults.py`` runs them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from benchmarks.slurm_rows import DONE, Expected
from launch.scheduler import scontrol
from tests.slurm import lab
from tests.slurm.lab import Watched

IN_RANKS = """\
import os, sys, time
if "RANK" in os.environ or sys.orig_argv[1:4] == ["-m", "dist_train", "launch"]:
"""
"""Starts a hook: where ranks are forked, in the process that forks them."""
BUG = f"""\
{IN_RANKS}\
    from torch.optim.optimizer import register_optimizer_step_post_hook
    def bug(optimizer, *_):
        if next(iter(optimizer.state.values()))["step"] == 57:
            if "BAD_DATA" in os.environ:
                from dist_train.errors import DataError
                raise DataError("data that is bad at step 57, always")
            raise RuntimeError("a bug that comes at step 57, always")
    register_optimizer_step_post_hook(bug)
"""
SLOW = f"""\
{IN_RANKS}\
    from torch.optim.optimizer import register_optimizer_step_post_hook
    register_optimizer_step_post_hook(lambda *_: time.sleep(0.25))
"""
UNEQUAL = SLOW.replace("0.25", '0.5 if os.environ["RANK"] == "1" else 0')
NO_SIGNAL = '#!/bin/sh\nPATH="${PATH#*:}" exec sbatch --signal=CONT@10 "$@"\n'
"""An ``sbatch`` found first, whose option replaces the signal that the job's script asks for."""
FILES = {
    "bug/sitecustomize.py": BUG,
    "slow/sitecustomize.py": SLOW,
    "unequal/sitecustomize.py": UNEQUAL,
    "no-signal/sbatch": NO_SIGNAL,
}
"""What the rows need besides the code: hooks in every rank, and a stand-in for sbatch."""
ALONE = ("--sbatch", "exclusive")
SUSPENDED_S = 75
"""How long a run is suspended; its timeouts are 60 s."""
LOSE_EVERY_S, LOSSES = 20, 5


Disturb = Callable[[Watched], "Watched | None"]
"""Disturbs a job while it trains. Returns another job that must end as this one, if there is one."""


@dataclass
class Case:
    """One failure, and how the job must end."""

    disturb: Disturb
    args: tuple[str, ...] = ()
    nodes: int = 1
    procs: int = 2
    steps: int = lab.STEPS
    at_step: int = 25
    must: Expected = DONE
    must_newer: Expected | None = None
    """The same from SLURM 24.05 on, if it differs."""
    must_other: Expected | None = None
    """The same for the second of two runs, if it differs there."""
    hosts: str = ""
    """/etc/hosts of the nodes; empty: all names resolve."""
    hook: str = ""
    """Code in every rank: ``bug``, ``slow``, ``unequal``."""
    signal: bool = True
    """Whether SLURM signals the job before its time limit."""
    cluster: dict[str, str] = field(default_factory=dict)
    """Settings of ``slurm/testcluster``."""

    def expected(self) -> list[Expected]:
        """Return how the runs of this case must end, the first and the other."""
        newer = scontrol.version() >= scontrol.KEEPS_GRACE
        if not newer:
            return [self.must, self.must]
        first = self.must_newer or self.must
        return [first, self.must_other or first]


def preempt(job: Watched) -> None:
    lab.preempt(nodes=int(os.environ["NODES"]))


def requeue(job: Watched) -> None:
    subprocess.run(["scontrol", "requeue", job.job_id], check=True)


def cancel(job: Watched) -> None:
    subprocess.run(["scancel", job.job_id], check=True)


def lose_node(job: Watched) -> None:
    lab.cluster("kill-node n2")
    job.wait(lambda seen: seen.restarts > 0, seconds=120)
    lab.cluster("start-node n2")


def lose_nodes(job: Watched) -> None:
    """Lose one node after the other; each is back when the next one is lost."""
    nodes = [f"n{i}" for i in range(1, int(os.environ["NODES"]) + 1)]
    for k in range(LOSSES):
        node = nodes[(k + 1) % len(nodes)]
        lab.cluster(f"kill-node {node}")
        job.look_for(LOSE_EVERY_S)
        lab.cluster(f"start-node {node}")


def suspend(job: Watched) -> None:
    """Let a job of a higher partition have the nodes; SLURM suspends the run meanwhile."""
    lab.preempt(SUSPENDED_S, nodes=int(os.environ["NODES"]))
    job.wait(lambda seen: seen.state == "SUSPENDED", seconds=60)
    job.wait(lambda seen: seen.state == "RUNNING", seconds=SUSPENDED_S + 60)


def suspend_by_hand(job: Watched) -> None:
    before = scontrol.show_job(job.job_id).end_time or 0.0
    subprocess.run(["scontrol", "suspend", job.job_id], check=True)
    job.look_for(SUSPENDED_S)
    subprocess.run(["scontrol", "resume", job.job_id], check=True)
    later = (scontrol.show_job(job.job_id).end_time or 0.0) - before
    assert later > SUSPENDED_S - 5, f"SLURM has moved the time limit of the job by {later:.0f} s only"


def be_forgotten(job: Watched) -> None:
    """Wait until SLURM has removed the job that is done."""
    job.wait_over(300)
    give_up_at = time.time() + 300
    while job.look().state != scontrol.FORGOTTEN:
        assert time.time() < give_up_at, "SLURM still knows the job"
        time.sleep(2)


def preempt_each_other(job: Watched) -> Watched:
    """Submit a second run that preempts this one; when it trains, let this one preempt it."""
    folder = job.run.parent / "other"
    folder.mkdir()
    config = folder / "config.yaml"
    config.write_text((job.run.parent / "config.yaml").read_text().replace(f"{job.run.parent}", str(folder)))
    other = lab.launch(config, "--partition=middle", *ALONE, nodes=int(os.environ["NODES"]), procs=1)

    def trains(seen: lab.Seen) -> bool:
        job.look()
        return seen.step >= 25 and seen.status == "running"

    other.wait(trains)
    assert job.look().restarts == 1, "the second run has not preempted the first one"
    subprocess.run(["scontrol", "update", f"JobId={job.job_id}", "Partition=high"], check=True)
    lab.wait_for_both(job, other)
    return other


def killer(kind: str, index: int) -> Disturb:
    return lambda job: os.kill(lab.processes(job.run, kind)[index], signal.SIGKILL)


def nothing(job: Watched) -> None:
    """Do nothing: the failure comes from the job itself or from SLURM."""


KILLED = Expected(lost=2 * lab.SAVE_EVERY - 1)
"""After a kill: the steps since the last save; or since the save before, if the last one was still being written."""
SUPERVISOR_KILLED = replace(KILLED, restarts=(1, 2))
"""SLURM ends the step. A node that answered too late gets that order once more, 70 s later: in the next start, which then stops."""
WALLTIME = Expected(restarts=tuple(range(1, 12)))
"""Slow steps take longer than the first start on an idle machine; on a busy one a start has less time for them."""
FAILED = Expected("FAILED", "failed", restarts=(0, 1))
ONCE_MORE = Expected(left_again=1)
UNDISTURBED = Expected(restarts=(0,))
SHORT = ("--time=2", "--signal-delay=45")
PAUSES = {"GANG": "1"}
CASES = {
    "preemption, 15 s grace": Case(preempt, nodes=2, procs=1, must_newer=ONCE_MORE),
    "preemption, no grace (KillWait 10 s)": Case(preempt, ("--partition=abrupt",), nodes=2, procs=1),
    "preemption, 15 s grace, PreemptMode=CANCEL": Case(
        preempt, ("--partition=cancel",), nodes=2, procs=1, must_newer=Expected("PREEMPTED")
    ),
    "walltime, by SLURM's signal": Case(nothing, SHORT, steps=300, at_step=1, hook="slow", must=WALLTIME),
    "walltime, no signal: our own limit": Case(
        nothing, SHORT, steps=300, at_step=1, hook="slow", must=WALLTIME, signal=False
    ),
    "scontrol requeue": Case(requeue),
    "node lost": Case(lose_node, nodes=2, procs=1, must=KILLED),
    "rolling failure: a node lost every 20 s": Case(
        lose_nodes, nodes=2, procs=1, steps=400, must=replace(KILLED, restarts=tuple(range(1, 12)))
    ),
    "one rank killed": Case(killer("worker", -1), must=replace(KILLED, restarts=(0,))),
    "one agent killed, one node": Case(killer("agent", 0), must=KILLED),
    "one agent killed, two nodes": Case(killer("agent", -1), nodes=2, procs=1, must=KILLED),
    "one supervisor killed, one node": Case(killer("supervisor", 0), must=SUPERVISOR_KILLED),
    "one supervisor killed, two nodes": Case(killer("supervisor", -1), nodes=2, procs=1, must=SUPERVISOR_KILLED),
    "scancel": Case(cancel, must=Expected("CANCELLED", "stopped", restarts=(0,))),
    "a bug at step 57": Case(nothing, ("--max-restarts=1",), at_step=1, hook="bug", must=FAILED),
    "preemption, then a bug at step 57": Case(
        preempt,
        ("--max-restarts=0",),
        nodes=2,
        procs=1,
        hook="bug",
        # One start less if it was preempted after step 56: the next start makes no progress, and is not repeated.
        must=replace(FAILED, restarts=(1, 2)),
        must_newer=replace(FAILED, restarts=(1, 2), left_again=1),
    ),
    "bad data at step 57, two nodes": Case(
        *(nothing, ("--env=BAD_DATA=1",)), nodes=2, procs=1, at_step=1, hook="bug", must=replace(FAILED, restarts=(0,))
    ),
    "names do not resolve, preemption": Case(
        preempt, nodes=2, procs=1, hosts="127.0.0.1 localhost\n", must_newer=ONCE_MORE
    ),
    "two runs that preempt each other": Case(
        *(preempt_each_other, ALONE),
        nodes=2,
        procs=1,
        hook="slow",
        # The first run ends in a partition without preemption: SLURM calls it preempted, and does not start it once more.
        must_newer=Expected("PREEMPTED"),
        must_other=ONCE_MORE,
    ),
    "suspended for 75 s, timeout 60 s (SUSPEND,GANG)": Case(
        *(suspend, ("--partition=pause",)),
        nodes=2,
        procs=1,
        hook="unequal",
        cluster=PAUSES,
        must=UNDISTURBED,
        steps=100,
    ),
    "scontrol suspend for 75 s, timeout 60 s": Case(suspend_by_hand, hook="unequal", must=UNDISTURBED, steps=100),
    "done, and forgotten (MinJobAge 2 s)": Case(
        be_forgotten, cluster={"MIN_JOB_AGE": "2"}, must=replace(UNDISTURBED, state=scontrol.FORGOTTEN)
    ),
}
