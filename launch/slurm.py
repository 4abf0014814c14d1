"""``python launch/slurm.py``: one command that puts a run, or a sweep, on a cluster. ``--help`` tells the options."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this is also run as a script
if __name__ == "__main__":  # a script's own folder would otherwise offer launch/*.py as top-level modules
    sys.path.remove(str(Path(__file__).resolve().parent))

from dist_train.config import load_config
from dist_train.errors import EXIT_USER, ConfigError, DistTrainError
from launch import options, status, sweep
from launch.code_copy import Snapshot, plan_snapshot, take_snapshot
from launch.job import Job, check_not_running, check_with_trainer, is_done, make_job
from launch.starts import record_submission


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 submitted (or, with --follow or --cluster local, done), 2 a user's error."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _status(argv[1:]) if argv[:1] == ["status"] else _launch(options.parse(argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `... --dry-run | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (DistTrainError, OSError) as error:  # OSError: a run folder that cannot be written
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return EXIT_USER


def _status(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python launch/slurm.py status", description="How the runs in a folder stand."
    )
    parser.add_argument("folder", nargs="?", default="runs")
    print(status.table(Path(parser.parse_args(argv).folder)), flush=True)
    return 0


def _launch(args: argparse.Namespace) -> int:
    if args.cluster == "slurm" and not args.dry_run and not shutil.which("sbatch"):
        raise ConfigError("there is no sbatch here: use --cluster local, or --dry-run, or a login node of a cluster")
    job = _make_job(args)
    if job is None:
        return 0
    plan = "" if args.no_check else check_with_trainer(job)
    snapshot = plan_snapshot(job.runs, job.home, args.config, copy=not args.no_snapshot)
    print(job.describe())
    print(plan, end="\n" if plan else "", flush=True)
    if args.dry_run:
        return _show(args, job, snapshot)
    take_snapshot(snapshot, job.runs)
    if args.cluster == "local":
        from launch.local import run_here

        return run_here(args, job, snapshot)
    return _submit(args, job, snapshot)


def _make_job(args: argparse.Namespace) -> Job | None:
    """The job with its runs; those of a sweep that are done or under way are left out. None: that was all of them."""
    if not args.sweep:
        job = make_job(args, [(None, [])], None)
        if args.cluster == "slurm" and not args.dry_run:
            check_not_running(job.runs[0])
        return job
    if args.follow:
        raise ConfigError("--follow follows one run; use `python launch/slurm.py status` for a sweep")
    name = load_config(args.config, args.overrides).run.name
    left: list[sweep.Combination] = []
    under_way = 0
    for combination in sweep.expand(args.sweep, name):
        run = make_job(args, [combination], name).runs[0]
        if is_done(run):
            print(f"{run.folder.path} is done")
            continue
        try:
            check_not_running(run)
        except ConfigError as error:
            print(error)
            under_way += 1
            continue
        left.append(combination)
    if not left:
        done = "all runs of this sweep are done"
        print(f"nothing to submit: {under_way} under way, the others done" if under_way else done)
    return make_job(args, left, name) if left else None


def _show(args: argparse.Namespace, job: Job, snapshot: Snapshot) -> int:
    from launch.rendezvous import Place
    from launch.submit import make_tasks, script
    from launch.supervise import agent_command

    place = Place("JOB", 0, node=0, nodes=job.nodes, host="FIRST_NODE", own="THIS_NODE", port=20000)
    print(f"\n# {job.home}/JOB_submission.sh\n{script(args, job, snapshot)}")
    print(f"# the supervisor of each node runs\n{' '.join(agent_command(make_tasks(args, job, snapshot)[0], place))}")
    return 0


def _submit(args: argparse.Namespace, job: Job, snapshot: Snapshot) -> int:
    from launch.submit import submit

    submitted = submit(args, job, snapshot)
    for run, entry in zip(job.runs, submitted, strict=True):
        record_submission(run.folder, entry.job_id, logs=entry.logs, code=str(snapshot.code), nodes=job.nodes)
        print(f"job {entry.job_id}: run folder {run.folder.path}, log {entry.logs}")
    first = submitted[0]
    output_dir = job.runs[0].folder.path.parent
    print(f"follow: tail -F {first.logs}\nstatus: python launch/slurm.py status {output_dir}")
    print(f"cancel: scancel {first.job_id.partition('_')[0]}   (saves first)", flush=True)
    return status.follow(job.runs[0].folder, first.job_id, first.logs) if args.follow else 0


if __name__ == "__main__":
    sys.exit(main())
