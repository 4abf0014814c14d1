"""Requeue a job whose supervisors were killed before they could requeue it.

The batch script runs ``python -m launch.last_resort STATUS --config FILE [key=value ...]`` after srun, with its exit
status. A status above 128 means that a signal killed a task; one above all signals, that srun could not start the tasks on
every node. Any other status means that a supervisor has decided; it may also have decided that this start failed, because srun
then kills the other supervisors.
"""

import argparse
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dist_train.config.load import load_config
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.system.streams import go_on_without
from launch.jobs.halving import seat_of
from launch.jobs.job_options import LAST_RESORT, JobOptions, add_options
from launch.node import rendezvous
from launch.node.verdict import Facts, judge
from launch.runs import starts
from launch.scheduler import scontrol

_LAST_SIGNAL = signal.SIGSYS
"""Later signals kill nothing by themselves. The codes of srun's own errors, modulo 256, are larger, such as 233 for a dead node."""


def main(argv: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> int:
    """Return the exit code of the batch script: that of srun, or 0 if the job was requeued or is done."""
    parser = argparse.ArgumentParser(prog="python -m launch.last_resort", description=__doc__)
    parser.add_argument("status", type=int)
    add_options(parser, ("config", *LAST_RESORT))
    parser.add_argument("--seat", help="instead of --config: a seat of a sweep with --halving")
    args = parser.parse_intermixed_args(argv)
    go_on_without()
    if (args.config is None) == (args.seat is None):
        parser.error("--config FILE is missing")
    launched = args.status <= 128 + _LAST_SIGNAL
    if args.status <= 128:
        return int(args.status)
    config, overrides = args.config, args.overrides
    if args.seat is not None:
        task = seat_of(args.seat, JobOptions.parsed(args)).task()
        config, overrides = task.config, task.overrides
    run, job_id = RunDir.of(load_config(config, overrides).run), rendezvous.job_id(env)
    start = starts.find_start(run, job_id, rendezvous.restarts(env))
    if start and start.get("verdict") == "fail":
        return int(args.status)
    job, past, result = scontrol.show_job_surely(job_id), starts.history(run, job_id), read_result(run)
    ended = result.get("status") == "done" or (
        result.get("status") == "stopped" and result.get("step", 0) != past.stopped_at
    )
    outside = _outside(job.nodes, start) if launched else f"srun could not start the run on every node ({args.status})"
    verdict = judge(
        Facts(
            result=result if ended else {},
            history=past,
            job_state=job.state,
            preempted=job.preempted,
            agent_code=128 - args.status if launched else 0,
            outside=outside,
            requeues=job.restarts,
            max_requeues=args.max_requeues,
        )
    )
    died = f"a supervisor died by signal {args.status - 128}; " if launched else ""
    print(f"[batch] {died}{verdict.action}: {verdict.why}", flush=True)
    if start:
        preempted = job.preempted or bool(start.get("preempted"))
        starts.record_end(run, verdict.action, verdict.why, preempted=preempted, outside=bool(outside))
    if verdict.action != "requeue":
        return 0 if verdict.action == "done" else int(args.status)
    complaint = scontrol.requeue(job_id)
    if complaint:
        print(f"error: SLURM does not requeue the job: {complaint}", file=sys.stderr)
    return args.status if complaint else 0


def _outside(nodes: str, start: dict[str, Any] | None) -> str:
    """Return which nodes were lost during a start: srun kills the supervisors of the others."""
    began = datetime.strptime(start["time"], "%Y-%m-%dT%H:%M:%S%z").timestamp() if start else math.inf
    lost = scontrol.lost_nodes(nodes, began)
    return f"lost {', '.join(lost)}" if lost else ""


if __name__ == "__main__":
    sys.exit(main())
