"""Submit a run or a sweep to SLURM: ``python launch/slurm.py``, ``python -m launch.slurm``, ``dist-train-slurm``."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # started as a file: find modules from the clone, and not launch/*.py as top-level modules
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dist_train.config.load import load_config
from dist_train.errors import EXIT_USER, ConfigError, DistTrainError
from launch import status
from launch.installation import CLONE_CONFIG, IN_CLONE, command
from launch.jobs import options, sweep
from launch.jobs.bracket_jobs import bracket_of, seats_of, submit_bracket, tasks_here
from launch.jobs.code_copy import Snapshot, plan_snapshot, take_snapshot, withdrawn_if_refused
from launch.jobs.container import contained
from launch.jobs.halving import Bracket
from launch.jobs.job import Job, check_limits, check_not_running, check_with_trainer, is_done, make_job
from launch.jobs.job_options import JobOptions, without_effect
from launch.runs.starts import record_submission
from launch.scheduler import cluster

if TYPE_CHECKING:
    from launch.submit import Submitted


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 submitted (with --follow or --cluster local: done), 2 wrong command or config."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv[:1] == ["status"]:
            code = status.main(argv[1:], f"{command('slurm')} status")
        else:
            code = _launch(_with_config(options.parse(argv)))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `... --dry-run | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (DistTrainError, OSError) as error:  # OSError: a run folder that cannot be written
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return EXIT_USER


def _with_config(given: JobOptions) -> JobOptions:
    """Return the options with a config: for one run in a clone, the default config, which is printed."""
    if given.config is not None:
        return given
    if given.sweep:
        raise ConfigError("--config FILE is missing: a sweep needs it")
    if not IN_CLONE:
        raise ConfigError("--config FILE is missing; `dist-train --example` lists configs to start from")
    config = os.path.relpath(CLONE_CONFIG)
    print(f"no --config given: using {config}", flush=True)
    return replace(given, config=config)


def _launch(given: JobOptions) -> int:
    if given.cluster == "slurm" and not given.dry_run:
        _check_slurm()
    job = _make_job(given)
    if job is None:
        return 0
    warnings = [*check_limits(job), *_unread()] if given.cluster == "slurm" else []
    unseen = given.container is not None and find_spec("torch") is None
    if unseen and not given.no_check:
        warnings.append(
            "there is no torch outside of the container: data, weights and model are checked when the run begins"
        )
    plan = "" if given.no_check or unseen else check_with_trainer(job)
    snapshot = plan_snapshot(job)
    print(job.describe())
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(plan, end="\n" if plan else "", flush=True)
    bracket = bracket_of(job) if job.options.halving else None
    if bracket:
        print(bracket.describe(job.runs[0].cfg.train.epochs), flush=True)
    if given.dry_run:
        return _show(job, snapshot, bracket)
    if given.cluster == "local":
        from launch.local import run_here

        if bracket:
            return run_here(job, snapshot, tasks_here(job, snapshot))
        take_snapshot(snapshot, job)
        return run_here(job, snapshot)
    if bracket:
        from launch.submit import submit

        return submit_bracket(job, snapshot, submit)
    return _submit(job, snapshot)


def _check_slurm() -> None:
    if other := os.environ.get("SLURM_CLUSTERS"):
        raise ConfigError(
            f"SLURM_CLUSTERS={other}: jobs are submitted to the cluster of this node; unset it, and use a login node of that cluster"
        )
    missing = [program for program in ("sbatch", "srun") if not shutil.which(program)]
    if missing:
        raise ConfigError(
            f"this machine has no {missing[0]}: use --cluster local, or --dry-run, or a login node of a cluster"
        )


def _unread() -> list[str]:
    names = ", ".join(without_effect(os.environ))
    return (
        [f"{names} of this shell: a job does not get it; give the option itself (--sbatch KEY=VALUE)"] if names else []
    )


def _make_job(given: JobOptions) -> Job | None:
    """Return the job. A sweep leaves out runs that are done or in a queue; None if no run is left."""
    if given.halving and not given.sweep:
        raise ConfigError("--halving has no effect without --sweep")
    if given.draw and not given.sweep:
        raise ConfigError("--draw has no effect without --sweep")
    if not given.sweep:
        job = make_job(given, [(None, [])], None)
        if given.cluster == "slurm" and not given.dry_run:
            check_not_running(job.runs[0])
        return job
    if given.follow:
        raise ConfigError(f"--follow works for one run; for a sweep use `{command('slurm')} status`")
    given = replace(given, halving=given.halving or sweep.halving_in(list(given.sweep)))
    name = load_config(str(given.config), list(given.overrides)).run.name
    combinations = sweep.expand(list(given.sweep), name, given.draw)
    if given.halving:
        return make_job(given, combinations, name)
    left: list[sweep.Combination] = []
    under_way = 0
    for combination in combinations:
        run = make_job(given, [combination], name).runs[0]
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
        print(f"nothing to submit: {under_way} run(s) in the queue or running, the others done" if under_way else done)
    return make_job(given, left, name) if left else None


def _show(job: Job, snapshot: Snapshot, bracket: Bracket | None) -> int:
    """Print the script of the job and the command of its supervisors; ask sbatch what it would do with the script."""
    from launch.node.agent import agent_command
    from launch.node.rendezvous import Place
    from launch.submit import arrays, script, test_only

    place = Place("JOB", 0, node=0, nodes=job.nodes, host="FIRST_NODE", own="THIS_NODE", port=20000)
    parts = arrays(job, snapshot)
    text = script(*parts[0], seats_of(job, snapshot, bracket, 0) if bracket else None)
    print(f"\n# {job.home}/JOB_submission.sh\n{text}")
    if len(parts) > 1:
        print(f"# the first of {len(parts)} arrays, of at most {len(parts[0][0].runs)} runs each (MaxArraySize)")
    agent = agent_command(snapshot.tasks[0], place)
    if job.options.container:
        agent, _ = contained(snapshot.tasks[0].options, agent, os.environ, job.runs[0].cfg, [], snapshot.code)
    print(f"# the supervisor of each node runs\n{shlex.join(agent)}", flush=True)
    if job.options.cluster == "slurm" and cluster.known(job.options.dry_run).offers:
        print(f"# sbatch --test-only: {test_only(text)}")
    return 0


def _submit(job: Job, snapshot: Snapshot) -> int:
    from launch.submit import arrays

    submitted: list[Submitted] = []
    try:
        for part in arrays(job, snapshot):
            submitted += _submit_part(*part)
    except ConfigError as error:
        if not submitted:
            raise
        others = f"{len(submitted)} of {len(job.runs)} runs are in the queue; the same command submits the others"
        raise ConfigError(f"{error}\n{others}") from None
    first = submitted[0]
    output_dir = job.runs[0].folder.path.parent
    print(f"follow: tail -F {first.logs}\nstatus: {command('slurm')} status {output_dir}")
    jobs = dict.fromkeys(entry.job_id.partition("_")[0] for entry in submitted)
    print(f"cancel: scancel {' '.join(jobs)}   (saves first)", flush=True)
    return status.follow(job.runs[0].folder, first.job_id, first.logs) if job.options.follow else 0


def _submit_part(job: Job, snapshot: Snapshot) -> "list[Submitted]":
    """Submit one run or one array, and write that into the run folders."""
    from launch.submit import submit

    with withdrawn_if_refused([job.home, *(run.folder.path / "slurm" for run in job.runs)]):
        take_snapshot(snapshot, job)
        submitted = submit(job, snapshot)
    for run, entry in zip(job.runs, submitted, strict=True):
        record_submission(run.folder, entry.job_id, logs=entry.logs, code=str(snapshot.code), nodes=job.nodes)
        print(f"job {entry.job_id}: run folder {run.folder.path}, log {entry.logs}")
    return submitted


if __name__ == "__main__":
    sys.exit(main())
