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
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.slurm_cases import CASES, FILES, KILLED, Case  # noqa: E402
from benchmarks.slurm_rows import Results, Row, line, measure, reference  # noqa: E402
from launch.scheduler import scontrol  # noqa: E402
from tests.slurm import lab  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"


def run_case(name: str, case: Case, tracker: str, work: Path) -> list[Row]:
    """Run one case. Return its row, and that of the other job if the case has two."""
    hosts = work / "hosts"
    hosts.write_text(case.hosts)
    lab.cluster("up", PROCTRACK=tracker, HOSTSFILE=str(hosts) if case.hosts else "", **case.cluster)
    folder = work / tracker / re.sub(r"\W+", "-", name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = lab.make_config(folder, work / "images", case.steps)
    weights = reference(work, work / "images", case.steps, case.nodes * case.procs) or ""
    path = os.environ["PATH"]
    os.environ |= {"PYTHONPATH": str(work / case.hook) if case.hook else ""}
    os.environ |= {} if case.signal else {"PATH": f"{work}/no-signal:{path}"}
    job = lab.launch(config, *case.args, nodes=case.nodes, procs=case.procs)
    began, note, jobs = time.time(), "", [job]
    try:
        job.wait_step(case.at_step)
        began = time.time()
        other = case.disturb(job)
        jobs += [other] if other else []
        job.wait_over(900)
    except AssertionError as error:
        note = str(error).splitlines()[0]
    os.environ |= {"PYTHONPATH": "", "PATH": path}
    time.sleep(1)
    fixed = {"slurm": release(), "tracker": tracker, "nodes": f"{case.nodes} x {case.procs}"}
    names = (name, f"{name}: the other")
    rows = [measure(job, began, weights, {**fixed, "case": name}) for job, name in zip(jobs, names, strict=False)]
    for row, job, expected in zip(rows, jobs, case.expected(), strict=False):
        row.ok, row.note = not note and expected.met_by(row), note
        if not row.ok:
            (job.run.parent / "log.txt").write_text(job.log())
            subprocess.run(["scancel", job.job_id], check=False)
    return rows


def release() -> str:
    """Return the version of SLURM, such as 22.05.8."""
    return scontrol.run("scontrol", "--version").split()[-1]


def prepare() -> Path:
    """Make what all rows share. Return their folder."""
    work = Path(tempfile.mkdtemp(prefix="dist_train-faults-"))
    lab.make_images(work / "images")
    for path, text in FILES.items():
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
            for row in run_case(name, case, tracker, work):
                rows.append(row)
                results.add(row, HEAD.format(every=lab.SAVE_EVERY, killed=KILLED.lost))
                print(line(row), flush=True)
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
start must leave before torchrun. There a preempted job with `PreemptMode=CANCEL` ends as PREEMPTED even if its run is done;
so does one that ends in a partition whose jobs are not preempted ("two runs that preempt each other").
"signal -> saved" and "restart -> first step" depend mostly on the load of the machine: to import torch took up to 20 s. A
requeued job waits at least 6 s for SLURM (`cred_expire`). Where `--follow` is -1, an earlier version of this benchmark did not
ask. "steps lost" is the largest loss of one resume. "the other" is the second of two runs. In rows with a suspension rank 1 takes
0.5 s longer for each step, so that the other ranks wait for it when they are suspended. "one supervisor killed": SLURM ends the
step; where a node answers that too late, SLURM repeats the order 70 s later, and so stops the next start: a second requeue, with
no step lost.
On 2026-11-27 the machine did eight other things at the same time (load 12 to 20, at times 130), at higher priority; from 15:30 on,
tests ran beside it (load 3 to 12), and the rows had the higher priority. On 2026-11-28 before 04:00 the load was 5 to 50, after 13:00
1 to 22, with the rows at the higher priority. Since that day the supervisor forks the ranks of a run on one node (`dist-train launch`),
and since 13:00 of that day ranks import less.

"""

if __name__ == "__main__":
    sys.exit(main())
