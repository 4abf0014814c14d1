"""One attempt at a run: lock, build, train, report how it ended."""

import os
import time
from dataclasses import dataclass

from dist_train.config import Config
from dist_train.config.types import seconds_of
from dist_train.distributed.group import Dist, gpu_names, hosts_of, joined
from dist_train.distributed.stop import StopRequest
from dist_train.errors import EXIT_DONE, EXIT_STOPPED, DistTrainError
from dist_train.run.folder import RunDir, told_as_config
from dist_train.run.lock import RunLock
from dist_train.run.provenance import begin_attempt
from dist_train.run.result import Status
from dist_train.system.terminal import log_to_console
from dist_train.training.failure import fail
from dist_train.training.loop import finished, fit, log
from dist_train.training.recorder import Recorder
from dist_train.training.setup import build_setup

LAST_WRITE_S = 20.0
"""How long a run that fails waits for the checkpoint in flight. torchrun leaves a rank 30 s after another has died."""


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
        number.value = group.from_main(lambda: begin_attempt(setup.run, cfg, group.world_size, hosts, gpu_names()))
        recorder = Recorder(setup, number.value, hosts)
        if finished(setup):
            log.info("%s is finished already", setup.run.path)
        try:
            status = fit(setup, recorder, stop)
        except Exception:
            setup.checkpoints.finish(LAST_WRITE_S)
            recorder.abandon()
            raise
        setup.checkpoints.close()
        recorder.close(status, stop.reason)
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
    except Exception as error:  # noqa: BLE001 - result.json records every failure
        return fail(cfg, error, number.value)
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    return EXIT_DONE if status == "done" or under_torchrun else EXIT_STOPPED
