"""Training: ``fit`` is the only loop; ``main`` puts an attempt around it."""

import logging
import os
import time
from dataclasses import dataclass

from torch.nn.utils import get_total_norm

from dist_train.checkpoint import Beside
from dist_train.config import Config, arithmetic, seconds_of
from dist_train.distributed import Dist, hosts_of, joined
from dist_train.errors import EXIT_DONE, EXIT_STOPPED, DistTrainError, NonFiniteError
from dist_train.evaluation import evaluate
from dist_train.failure import fail
from dist_train.freeze import train_mode
from dist_train.journal import Journal
from dist_train.lock import RunLock
from dist_train.logs import log_to_console
from dist_train.manifest import Manifest
from dist_train.preempt import StopRequest
from dist_train.run_dir import RunDir, Status, begin_attempt, told_as_config
from dist_train.setup import Setup, build_setup, train_everything
from dist_train.step import train_step

log = logging.getLogger(__name__)

LAST_WRITE_S = 20.0
"""How long a run that fails waits for the checkpoint in flight. torchrun leaves a rank 30 s after another has died."""


def fit(setup: Setup, journal: Journal, stop: StopRequest) -> Status:
    """The only training loop: from the state's step to the end of the plan, or to an agreed stop."""
    plan, progress = setup.plan, setup.state.progress
    # A run stopped at a step whose evaluation was due comes back to it first.
    pending = plan.due(progress.step, plan.eval_every_steps) and progress.evaluated < progress.step
    over = finished(setup)
    while pending or not over:
        if not pending:
            if progress.step == plan.unfreeze_step:
                setup.stepper.wrapped = train_everything(setup.cfg, plan, setup.group, setup.network, setup.state)
            train_step(setup.stepper, setup.state)
            journal.tick()
            setup.checkpoints.poll()
            if plan.due(progress.step, plan.log_every_steps):
                journal.log_steps()
        stopping = stop.agreed()
        best: Beside | None = None
        if plan.due(progress.step, plan.eval_every_steps) and not stopping:
            best, stopping = evaluate_now(setup, journal, stop)
        over = finished(setup)
        if stopping or over or best is not None or plan.due(progress.step, plan.save_every_steps):
            save_now(setup, journal, stop, best)
        if stopping:
            log.info("stopped at step %d: %s", progress.step, stop.reason)
            return "stopped"
        pending = False
    return "done"


def finished(setup: Setup) -> bool:
    """Whether all steps are done, or early stopping has had enough."""
    progress, stopping = setup.state.progress, setup.cfg.train.early_stopping
    out_of_patience = stopping is not None and progress.evaluations_without_gain >= stopping.patience
    return progress.step >= setup.plan.total_steps or out_of_patience


def evaluate_now(setup: Setup, journal: Journal, stop: StopRequest) -> tuple[Beside | None, bool]:
    """Evaluate and note the result.

    Returns:
        What is published if it is the best so far, and whether the ranks agreed to stop on the way, without a result.
    """
    began = time.monotonic()
    state = setup.state
    state.share_buffers(setup.group)
    found = evaluate(
        state.evaluated_model,
        setup.validation,
        setup.index,
        setup.group,
        setup.normalise,
        state.precision,
        stop,
    )
    train_mode(state.model)
    if found is None:
        return None, True
    return journal.note_evaluation(found, time.monotonic() - began), False


def save_now(setup: Setup, journal: Journal, stop: StopRequest, beside: Beside | None) -> None:
    """Begin to save a checkpoint, and the files ``beside`` it. Every rank must call it; rank 0 copies the state, its
    writer does the rest.

    Raises:
        NonFiniteError: the state is not finite. Such a state is never saved.
        SaveError: the checkpoint before this one could not be written.
    """
    began = time.monotonic()
    journal.check_finite()
    bad = setup.bad_images.report(setup.group, setup.run.bad_images)
    if bad and setup.group.is_main:
        log.warning("%d images cannot be read and are skipped: see %s", bad, setup.run.bad_images)
    progress = setup.state.progress
    if not get_total_norm(list(setup.state.model.parameters())).isfinite():
        raise NonFiniteError(f"the weights are not finite after step {progress.step}; lower `optim.lr`")
    setup.state.share_buffers(setup.group)
    state = setup.state.state_dict(setup.group)
    manifest = Manifest(
        step=progress.step,
        evaluated=progress.evaluated == progress.step,
        world_size=setup.group.world_size,
        data_fingerprint=setup.index.fingerprint,
        config=arithmetic(setup.cfg),
    )
    if setup.group.is_main:
        setup.checkpoints.save(state, manifest, beside)
    stop.reserve(10 + 2 * setup.checkpoints.write_s)
    journal.paused(time.monotonic() - began)


@dataclass
class Number:
    """Which attempt this is; None until it has begun."""

    value: int | None = None


def attempt(cfg: Config, group: Dist, number: Number) -> Status:
    """One attempt at a run: lock it, build, resume, train, tell how it ended.

    The state that was saved before an error is sound: it gets the time to reach the disk.
    """
    log_to_console(group.rank)
    stop = StopRequest(group, seconds_allowed(cfg, time.time()), cfg.distributed.timeout_s)
    lock = RunLock(RunDir.of(cfg).lock)
    group.from_main(lambda: _take(RunDir.of(cfg), lock))
    try:
        setup = build_setup(cfg, group)
        hosts = hosts_of(group)
        number.value = group.from_main(lambda: begin_attempt(setup.run, cfg, group.world_size, hosts))
        journal = Journal(setup, number.value, hosts)
        if finished(setup):
            log.info("%s is finished already", setup.run.path)
        try:
            status = fit(setup, journal, stop)
        except Exception:
            setup.checkpoints.finish(LAST_WRITE_S)
            raise
        setup.checkpoints.close()
        journal.close(status)
        stop.close()
    finally:
        if group.is_main:
            lock.release()
    return status


def _take(run: RunDir, lock: RunLock) -> None:
    with told_as_config(run):
        lock.acquire()


def seconds_allowed(cfg: Config, now: float) -> float | None:
    """Time until ``train.time_limit``, or until SLURM ends the job, whichever comes first.

    Args:
        now: seconds since the epoch.
    """
    limits = [seconds_of(cfg.train.time_limit)] if cfg.train.time_limit else []
    if "SLURM_JOB_END_TIME" in os.environ:  # set by SLURM from 23.02 on, and by our launcher
        limits.append(int(float(os.environ["SLURM_JOB_END_TIME"]) - now))
    return min(limits) if limits else None


def main(cfg: Config) -> int:
    """Train.

    Returns:
        The exit code. A stopped run exits 0 under torchrun, which would restart a worker that leaves with
        anything else; ``result.json`` tells.
    """
    number = Number()
    try:
        with joined(cfg.distributed) as group:
            status = attempt(cfg, group, number)
    except KeyboardInterrupt:
        error = DistTrainError(
            "interrupted twice: left at once, without saving; the same command goes on from what is saved"
        )
        return fail(cfg, error, number.value)
    except Exception as error:  # noqa: BLE001 - every failure is told in result.json
        return fail(cfg, error, number.value)
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    return EXIT_DONE if status == "done" or under_torchrun else EXIT_STOPPED
