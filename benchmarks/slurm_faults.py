"""The fault table: what each kind of failure costs a run on a real SLURM. Run it as root, on one Linux machine:

    slurm/testcluster alone python benchmarks/slurm_faults.py [--tracker cgroup] [--nodes 4] [--only NAME] [--again]
    DEBIAN=trixie slurm/testcluster alone python benchmarks/slurm_faults.py    the same with SLURM 24.11

Each row is a job of the real trainer, submitted by the real launcher, on ``slurm/testcluster``. Each finished row is added
to ``benchmarks/results/slurm_faults.json`` and runs again if it was not ok, or with ``--again``. The table is written next to that file.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.slurm_rows import DONE, Expected, Results, Row, line, measure, reference  # noqa: E402
from launch import scontrol  # noqa: E402
from tests.slurm import lab  # noqa: E402
from tests.slurm.lab import Watched  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
BUG = """\
import os
if "RANK" in os.environ:
    from torch.optim.optimizer import register_optimizer_step_post_hook
    def bug(optimizer, *_):
        if next(iter(optimizer.state.values()))["step"] == 57:
            if "BAD_DATA" in os.environ:
                from dist_train.errors import DataError
                raise DataError("data that is bad at step 57, always")
            raise RuntimeError("a bug that comes at step 57, always")
    register_optimizer_step_post_hook(bug)
"""
SLOW = """\
import os, time
if "RANK" in os.environ:
    from torch.optim.optimizer import register_optimizer_step_post_hook
    register_optimizer_step_post_hook(lambda *_: time.sleep(0.25))
"""
NO_SIGNAL = '#!/bin/sh\nPATH="${PATH#*:}" exec sbatch --signal=CONT@10 "$@"\n'
"""An ``sbatch`` found first, whose option replaces the signal that the job's script asks for."""


@dataclass
class Case:
    """One failure, and how the job must end."""

    disturb: Callable[[Watched], None]
    args: tuple[str, ...] = ()
    nodes: int = 1
    procs: int = 2
    steps: int = lab.STEPS
    at_step: int = 25
    must: Expected = DONE
    must_newer: Expected | None = None
    """The same from SLURM 24.05 on, if it differs."""
    hosts: str = ""
    """/etc/hosts of the nodes; empty: all names resolve."""
    hook: str = ""
    """Code in every rank: ``bug``, ``slow``."""
    signal: bool = True
    """Whether SLURM signals the job before its time limit."""

    def expected(self) -> Expected:
        newer = scontrol.version() >= scontrol.KEEPS_GRACE
        return self.must_newer if newer and self.must_newer else self.must


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


def killer(kind: str, index: int) -> Callable[[Watched], None]:
    return lambda job: os.kill(lab.processes(job.run, kind)[index], signal.SIGKILL)


def nothing(job: Watched) -> None:
    """Do nothing: the failure comes from the job itself or from SLURM."""


KILLED = Expected(lost=2 * lab.SAVE_EVERY - 1)
"""After a kill: the steps since the last save; or since the save before, if the last one was still being written."""
WALLTIME = Expected(restarts=tuple(range(1, 12)))
"""Slow steps take longer than the first start on an idle machine; on a busy one a start has less time for them."""
FAILED = Expected("FAILED", "failed", restarts=(0, 1))
ONCE_MORE = Expected(left_again=1)
SHORT = ("--time=2", "--signal-delay=45")
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
    "one rank killed": Case(killer("worker", -1), must=replace(KILLED, restarts=(0,))),
    "one agent killed, one node": Case(killer("agent", 0), must=KILLED),
    "one agent killed, two nodes": Case(killer("agent", -1), nodes=2, procs=1, must=KILLED),
    "one supervisor killed, one node": Case(killer("supervisor", 0), must=KILLED),
    "one supervisor killed, two nodes": Case(killer("supervisor", -1), nodes=2, procs=1, must=KILLED),
    "scancel": Case(cancel, must=Expected("CANCELLED", "stopped", restarts=(0,))),
    "a bug at step 57": Case(nothing, ("--max-restarts=1",), at_step=1, hook="bug", must=FAILED),
    "preemption, then a bug at step 57": Case(
        preempt,
        ("--max-restarts=0",),
        nodes=2,
        procs=1,
        hook="bug",
        must=replace(FAILED, restarts=(2,)),
        must_newer=replace(FAILED, restarts=(2,), left_again=1),
    ),
    "bad data at step 57, two nodes": Case(
        *(nothing, ("--env=BAD_DATA=1",)), nodes=2, procs=1, at_step=1, hook="bug", must=replace(FAILED, restarts=(0,))
    ),
    "names do not resolve, preemption": Case(
        preempt, nodes=2, procs=1, hosts="127.0.0.1 localhost\n", must_newer=ONCE_MORE
    ),
}


def run_case(name: str, case: Case, tracker: str, work: Path) -> Row:
    """Run one row of the table."""
    hosts = work / "hosts"
    hosts.write_text(case.hosts)
    lab.cluster("up", PROCTRACK=tracker, HOSTSFILE=str(hosts) if case.hosts else "")
    folder = work / tracker / re.sub(r"\W+", "-", name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = lab.make_config(folder, work / "images", case.steps)
    weights = reference(work, work / "images", case.steps, case.nodes * case.procs) or ""
    path = os.environ["PATH"]
    os.environ |= {"PYTHONPATH": str(work / case.hook) if case.hook else ""}
    os.environ |= {} if case.signal else {"PATH": f"{work}/no-signal:{path}"}
    job = lab.launch(config, *case.args, nodes=case.nodes, procs=case.procs)
    os.environ |= {"PYTHONPATH": "", "PATH": path}
    began, note = time.time(), ""
    try:
        job.wait_step(case.at_step)
        began = time.time()
        case.disturb(job)
        job.wait_over(900)
    except AssertionError as error:
        note = str(error).splitlines()[0]
    time.sleep(1)
    nodes = f"{case.nodes} x {case.procs}"
    row = measure(job, began, weights, {"slurm": release(), "tracker": tracker, "nodes": nodes, "case": name})
    row.ok, row.note = not note and case.expected().met_by(row), note
    if not row.ok:
        (folder / "log.txt").write_text(job.log())
        subprocess.run(["scancel", job.job_id], check=False)
    return row


def release() -> str:
    """Return the version of SLURM, such as 22.05.8."""
    return scontrol.run("scontrol", "--version").split()[-1]


def prepare() -> Path:
    """Make what all rows share. Return their folder."""
    work = Path(tempfile.mkdtemp(prefix="dist_train-faults-"))
    lab.make_images(work / "images")
    for path, text in {
        "bug/sitecustomize.py": BUG,
        "slow/sitecustomize.py": SLOW,
        "no-signal/sbatch": NO_SIGNAL,
    }.items():
        (work / path).parent.mkdir(parents=True)
        (work / path).write_text(text)
        (work / path).chmod(0o755)
    return work


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracker", action="append", choices=("linuxproc", "cgroup"), help="(linuxproc)")
    parser.add_argument("--nodes", type=int, help="every row on so many nodes with one rank each (1 x 2 or 2 x 1)")
    parser.add_argument("--only", action="append", choices=list(CASES))
    parser.add_argument("--again", action="store_true", help="also run rows that are already recorded")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the table (benchmarks/results)")
    args = parser.parse_args()
    os.environ["NODES"] = str(args.nodes or 2)
    lab.cluster("up")
    work, results, rows = prepare(), Results(args.results, list(CASES)), []
    for tracker in args.tracker or ["linuxproc"]:
        for name in args.only or list(CASES):
            case = replace(CASES[name], nodes=args.nodes, procs=1) if args.nodes else CASES[name]
            key = (release(), f"{case.nodes} x {case.procs}", tracker, name)
            if not args.again and any(row.key == key and row.ok for row in results.read()):
                continue
            rows.append(run_case(name, case, tracker, work))
            results.add(rows[-1], HEAD.format(every=lab.SAVE_EVERY, killed=KILLED.lost))
            print(line(rows[-1]), flush=True)
    if not all(row.ok for row in rows):
        print(f"logs are in {work}")
        return 1
    shutil.rmtree(work)
    return 0


HEAD = """\
# Faults on a real SLURM

Made by `slurm/testcluster alone python benchmarks/slurm_faults.py` (SLURM of Debian 12) and `DEBIAN=trixie slurm/testcluster
alone ...` (of Debian 13, in a chroot), with `--tracker cgroup` and `--nodes N` for the rows that say so; on 2 shared CPU
cores without a GPU; nodes in network namespaces, gloo ranks, torch 2.14.1; a 0.4 M parameter ResNet, a checkpoint every
{every} steps. "weights" compares `last.safetensors` with that of an undisturbed torchrun. A row is ok if the job and the run
ended as expected, with equal weights if it is done, and lost no step after a signal and at most {killed} steps after a kill.
"left again": SLURM 24.05 and later start a job once more after its end if it was once preempted with a grace time; that
start must leave before torchrun. There a preempted job with `PreemptMode=CANCEL` ends as PREEMPTED even if its run is done.
"signal -> saved" and "restart -> first step" depend mostly on the load of the machine: to import torch took up to 20 s. A
requeued job waits at least 6 s for SLURM (`cred_expire`). Where `--follow` is -1, an earlier version of this benchmark did not
ask. On 2026-11-27 the machine did eight other things at the same time (load 12 to 20), at higher priority.

"""

if __name__ == "__main__":
    sys.exit(main())
