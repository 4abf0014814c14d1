"""The fault table: what each kind of failure costs a run on a real SLURM. Run it as root, on one Linux machine:

    python benchmarks/slurm_faults.py [--tracker linuxproc] [--tracker cgroup] [--only NAME] [--again]

Each row is a job of the real trainer, submitted by the real launcher, on ``slurm/testcluster``. Each finished row is added
to ``benchmarks/results/slurm_faults.json`` and runs again only with ``--again``. The table is written next to that file.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from launch import scontrol  # noqa: E402
from tests.slurm import lab  # noqa: E402
from tests.slurm.lab import Watched  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
WORK = Path("/tmp/dist_train-faults")
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


@dataclass
class Case:
    """One failure, and how the job must end."""

    disturb: Callable[[Watched], None]
    args: tuple[str, ...] = ()
    nodes: int = 1
    procs: int = 2
    steps: int = lab.STEPS
    at_step: int = 25
    state: str = "COMPLETED"
    restarts: tuple[int, ...] = (1,)
    lost: int = 0
    """Largest number of steps that may be trained again."""
    hosts: str = ""
    """/etc/hosts of the nodes; empty: all names resolve."""
    pythonpath: str = ""


@dataclass
class Row:
    """The result of one case."""

    tracker: str
    case: str
    ok: bool
    job: str
    requeues: int
    attempts: int
    steps_lost: int | None
    saved_after_s: float | None
    first_step_after_s: float | None
    final_state: str
    status: str
    weights: str
    date: str
    note: str = ""


def preempt(job: Watched) -> None:
    lab.preempt(nodes=2)


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


KILLED = 2 * lab.SAVE_EVERY - 1
"""After a kill: the steps since the last save; or since the save before, if the last one was still being written."""
WALLTIME = {"at_step": 1, "restarts": (1, 2, 3)}
"""Their steps take longer than the first start on an idle machine, and not longer than four starts on a busy one."""
BROKEN = {"state": "FAILED", "at_step": 1, "pythonpath": str(WORK / "bug")}
SHORT = ("--time=2", "--signal-delay=45")
CASES = {
    "preemption, 15 s grace": Case(preempt, nodes=2, procs=1),
    "preemption, no grace (KillWait 10 s)": Case(preempt, ("--partition=abrupt",), nodes=2, procs=1),
    "walltime, by SLURM's signal": Case(nothing, SHORT, steps=2000, **WALLTIME),
    "walltime, no signal: our own limit": Case(nothing, (*SHORT, "--sbatch=signal=CONT@10"), steps=3500, **WALLTIME),
    "scontrol requeue": Case(requeue),
    "node lost": Case(lose_node, nodes=2, procs=1, lost=KILLED),
    "one rank killed": Case(killer("worker", -1), restarts=(0,), lost=KILLED),
    "one agent killed, one node": Case(killer("agent", 0), lost=KILLED),
    "one agent killed, two nodes": Case(killer("agent", -1), nodes=2, procs=1, lost=KILLED),
    "one supervisor killed, one node": Case(killer("supervisor", 0), lost=KILLED),
    "one supervisor killed, two nodes": Case(killer("supervisor", -1), nodes=2, procs=1, lost=KILLED),
    "scancel": Case(cancel, state="CANCELLED", restarts=(0,)),
    "a bug at step 57": Case(nothing, ("--max-restarts=1",), restarts=(0, 1), **BROKEN),
    "bad data at step 57, two nodes": Case(nothing, ("--env=BAD_DATA=1",), nodes=2, procs=1, restarts=(0,), **BROKEN),
    "names do not resolve, preemption": Case(preempt, nodes=2, procs=1, hosts="127.0.0.1 localhost\n"),
}


def run_case(name: str, case: Case, tracker: str) -> Row:
    """Run one row of the table."""
    hosts = WORK / "hosts"
    hosts.write_text(case.hosts)
    lab.cluster("up", PROCTRACK=tracker, HOSTSFILE=str(hosts) if case.hosts else "")
    folder = WORK / tracker / re.sub(r"\W+", "-", name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = lab.make_config(folder, WORK / "images", case.steps)
    os.environ["PYTHONPATH"] = case.pythonpath
    job = lab.launch(config, *case.args, nodes=case.nodes, procs=case.procs)
    os.environ.pop("PYTHONPATH")
    try:
        job.wait_step(case.at_step)
        began = time.time()
        case.disturb(job)
        end, note = job.wait_over(420), ""
    except AssertionError as error:
        end, note, began = job.look(), str(error).splitlines()[0], time.time()
    time.sleep(1)
    row = measure(name, case, tracker, job, began)
    if note or not row.ok:
        (folder / "log.txt").write_text(job.log())
        subprocess.run(["scancel", job.job_id], check=False)
    row.note = note
    row.final_state = end.state
    return row


def measure(name: str, case: Case, tracker: str, job: Watched, began: float) -> Row:
    """Return a row without its note."""
    end, resumed = job.look(), job.resumed_at()
    final = lab.weights(job.run)
    same = "none" if final is None else "equal" if final == reference(case.steps) else "DIFFERENT"
    lost = reached_before(job) - resumed[0] if resumed and case.state == "COMPLETED" else None
    expected = case.state == end.state and end.restarts in case.restarts and (lost or 0) <= case.lost
    expected &= (
        same == "equal"
        if case.state == "COMPLETED"
        else end.status == {"CANCELLED": "stopped"}.get(case.state, "failed")
    )
    return Row(
        tracker=tracker,
        case=name,
        ok=expected,
        job=job.job_id,
        requeues=end.restarts,
        attempts=end.attempt,
        steps_lost=lost,
        saved_after_s=saved_after(job, began),
        first_step_after_s=first_step_after(job, began),
        final_state=end.state,
        status=end.status,
        weights=same,
        date=f"{datetime.now():%Y-%m-%d %H:%M}",
    )


def reached_before(job: Watched) -> int:
    """Return the last step before the second attempt."""
    return max(seen.step for seen in job.seen if seen.attempt == 1)


def saved_after(job: Watched, began: float) -> float | None:
    """Return the seconds until the run had stopped and saved, from the first signal, or from the kill without a signal."""
    saved = next((seen.time for seen in job.seen if seen.status == "stopped"), None)
    if saved is None:
        return None
    told = [clock(text) for text in re.findall(r"\[supervisor (\S+) node \d+\] \w+: asking", job.log())]
    return round(saved - min([moment for moment in told if moment < saved], default=began), 1)


def first_step_after(job: Watched, began: float) -> float | None:
    """Return the seconds until a new step, from the second start of the supervisors, or from the kill without one."""
    started = re.search(r"\[supervisor (\S+) node 0\] start [\d_]+\.1,", job.log())
    again = [seen for seen in job.seen if seen.attempt > 1 and (seen.restarts > 0 or not started)]
    base = again[0].step if again else 0
    moved = next((seen.time for seen in again if seen.step > base), None)
    return round(moved - (clock(started[1]) if started else began), 1) if moved else None


def clock(text: str) -> float:
    """Return the Unix time of a time of today."""
    return datetime.combine(datetime.now().date(), datetime.strptime(text, "%H:%M:%S.%f").time()).timestamp()


def reference(steps: int) -> str | None:
    """Return the digest of the final weights of an undisturbed run with two ranks; trained once per call of this command."""
    folder = WORK / f"undisturbed-{steps}"
    if lab.weights(folder / "run") is None:
        folder.mkdir(parents=True, exist_ok=True)
        lab.run_with_torchrun(lab.make_config(folder, WORK / "images", steps), procs=2)
    return lab.weights(folder / "run")


def place(row: Row) -> tuple[bool, int]:
    """Return the position of a row in the table."""
    return row.tracker == "cgroup", list(CASES).index(row.case)


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    head = "| tracker | case | job | requeues | attempts | steps lost | signal -> saved, s | restart -> first step, s | state | weights | |"
    lines = [head, "|" + "---|" * 11]
    for row in rows:
        cells = [row.tracker, row.case, row.job, row.requeues, row.attempts, row.steps_lost, row.saved_after_s]
        cells += [
            row.first_step_after_s,
            row.final_state,
            row.weights,
            "ok" if row.ok else f"NOT AS EXPECTED {row.note}",
        ]
        lines.append("| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracker", action="append", choices=("linuxproc", "cgroup"))
    parser.add_argument("--only", action="append", choices=list(CASES))
    parser.add_argument("--again", action="store_true", help="also run rows that are already recorded")
    args = parser.parse_args()
    file = RESULTS / "slurm_faults.json"
    rows = [Row(**row) for row in json.loads(file.read_text())] if file.exists() else []
    (WORK / "bug").mkdir(parents=True, exist_ok=True)
    (WORK / "bug" / "sitecustomize.py").write_text(BUG)
    lab.make_images(WORK / "images")
    for stale in WORK.glob("undisturbed-*"):  # of other code, perhaps
        shutil.rmtree(stale)
    for tracker in args.tracker or ["linuxproc", "cgroup"]:
        for name in args.only or list(CASES):
            known = [row for row in rows if (row.tracker, row.case) == (tracker, name)]
            if known and not args.again:
                continue
            row = run_case(name, CASES[name], tracker)
            rows = sorted([other for other in rows if other not in known] + [row], key=place)
            file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
            print(table([row]).splitlines()[-1], flush=True)
    (RESULTS / "slurm_faults.md").write_text(
        HEAD.format(version=scontrol.run("sinfo", "--version").strip(), every=lab.SAVE_EVERY, killed=KILLED)
        + table(rows)
    )
    return 0 if all(row.ok for row in rows) else 1


HEAD = """\
# Faults on a real SLURM

Made by `python benchmarks/slurm_faults.py` on 2 shared CPU cores, {version}, two nodes in network namespaces, two
gloo ranks, torch 2.14.1; a 0.4 M parameter ResNet, a checkpoint every {every} steps. "weights" compares
`last.safetensors` with that of an undisturbed torchrun. A row is ok if the job ended as expected, with equal weights if it
completed, and lost no step after a signal and at most {killed} steps after a kill. "signal -> saved" and "restart -> first
step" depend mostly on the load of the machine: to import torch took up to 20 s. A requeued job waits at least 6 s for SLURM
(`cred_expire`).

"""

if __name__ == "__main__":
    sys.exit(main())
