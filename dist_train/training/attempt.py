"""One attempt at a run, as a command or inside a program: lock, build, train, report the result."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dist_train.checkpoint.sharded.by_ranks import on_writers
from dist_train.checkpoint.store import Checkpoints
from dist_train.config.schema import Config
from dist_train.config.types import seconds_of
from dist_train.data.loader import end_loaders
from dist_train.data.stored.record import recording
from dist_train.distributed.group import Dist, gpu_names, hosts_of, joined
from dist_train.distributed.stop import Limit, StopNow, StopRequest
from dist_train.distributed.watchdog import Watchdog, Why
from dist_train.errors import DistTrainError, TakenError
from dist_train.hooks.base import Start
from dist_train.loggers.open import open_loggers
from dist_train.run.folder import RunDir, must_be_writable
from dist_train.run.lock import RunLock
from dist_train.run.provenance import begin_attempt, remove_partial_files
from dist_train.run.result import Result, Status, load_result
from dist_train.system.machine.clock import ticking
from dist_train.system.processes import leave_at_once
from dist_train.system.start import JOB_END, seconds_of_job
from dist_train.system.terminal import log_to_console
from dist_train.training.failure import exit_code, fail, for_program, leave, left_by_others, record_failure
from dist_train.training.loop import evaluation_pending, finished, fit
from dist_train.training.parts import fast_dev_run
from dist_train.training.parts.ahead import import_ahead
from dist_train.training.parts.given import Given
from dist_train.training.parts.micro_batch import MicroBatch
from dist_train.training.parts.nodes import check_nodes
from dist_train.training.recorder import Recorder
from dist_train.training.setup import Setup, build_setup
from dist_train.training.stop_at_start import stops_at_start_recorded

log = logging.getLogger(__name__)

LAST_WRITE_S = 20.0
"""How long a failing run waits for a checkpoint that is being written. torchrun kills a rank 30 s after another died."""

LEAVING_WRITE_S = 1.5
"""How long a run waits for that if it leaves after a stop signal."""

NOTHING_GIVEN = Given()


@dataclass
class Begun:
    """What an attempt has got so far.

    Attributes:
        number: the number of the attempt; None until it has started.
        stop: the watch over signals; None until it has begun.
        checkpoints: None until they are open.
        batch: the micro-batch of this start, which an error of memory may lower.
        trial: the run folder to remove at the end; None on other ranks than 0, and without ``train.fast_dev_run``.
    """

    number: int | None = None
    stop: StopRequest | None = None
    checkpoints: Checkpoints | None = None
    batch: MicroBatch | None = None
    trial: Path | None = None

    def leave_no_trial(self) -> None:
        """Remove the folder of ``train.fast_dev_run``, if this is one."""
        if self.trial is not None:
            fast_dev_run.remove_folder(self.trial)


def main(cfg: Config) -> int:
    """Train, as a command. Return the exit code: ``failure.exit_code`` says which."""
    cfg = fast_dev_run.config_of_start(cfg)
    begun, parts = Begun(), ExitStack()  # not closed after an error: the process exits at once
    try:
        parts.enter_context(ticking())
        with stops_at_start_recorded(RunDir.of(cfg.run)):
            group = parts.enter_context(joined(cfg.distributed))
        status = one_or_two_attempts(cfg, group, begun, parts)
        parts.close()
    except StopNow as stopped:
        leave_at_once(leave(cfg, str(stopped), begun.number))
    except KeyboardInterrupt:
        return fail(cfg, _interrupted(), begun.number)
    except Exception as error:  # noqa: BLE001 - result.json records every failure
        if begun.stop is not None and left_by_others(error, begun.stop.reason):
            leave_at_once(leave(cfg, begun.stop.reason, begun.number))
        return fail(cfg, error, begun.number, begun.batch)
    finally:
        begun.leave_no_trial()
    return exit_code(status)


def train(cfg: Config, given: Given) -> Result:
    """Train inside a program that continues afterwards. Everything is closed at the end, also after an error.

    Returns:
        The result of the attempt, the same on every rank.

    Raises:
        DistTrainError: an error that the user can fix, or a lost rank. Other errors are raised unchanged.
    """
    cfg = fast_dev_run.config_of_start(cfg)
    begun = Begun()
    with ExitStack() as parts:
        parts.callback(begun.leave_no_trial)
        try:
            parts.enter_context(ticking())
            group = parts.enter_context(joined(cfg.distributed))
            one_or_two_attempts(cfg, group, begun, parts, given)
            return group.from_main(partial(load_result, RunDir.of(cfg.run)))
        except StopNow as stopped:
            leave(cfg, str(stopped), begun.number)
            return replace(load_result(RunDir.of(cfg.run)), status="stopped")
        except KeyboardInterrupt:
            record_failure(cfg, _interrupted(), begun.number)
            raise
        except Exception as error:
            known = for_program(record_failure(cfg, error, begun.number, begun.batch))
            if not isinstance(known, DistTrainError):
                raise
        finally:
            end_loaders()  # before the writer ends: while torch lists a killed loader process, any child's end raises
    # Raised here without the old traceback, which would keep the training's open files and GPU memory alive.
    known.__cause__ = known.__context__ = None
    raise known.with_traceback(None)


def _interrupted() -> DistTrainError:
    return DistTrainError(
        "interrupted twice: exited at once, without saving; the same command continues from the last checkpoint"
    )


def one_or_two_attempts(cfg: Config, group: Dist, begun: Begun, parts: ExitStack, given: Given | None = None) -> Status:
    """Make one attempt; with ``train.fast_dev_run`` a second one, which goes on from the first."""
    if not cfg.train.fast_dev_run:
        return make_attempt(cfg, group, begun, parts, given)
    log_to_console(group.rank)
    path = group.from_main(partial(fast_dev_run.make_folder, cfg))
    begun.trial = path if group.is_main else None
    first = parts.enter_context(ExitStack())
    make_attempt(cfg, group, begun, first, fast_dev_run.given_to_attempt(given))
    if _stopped_from_outside(begun, group):
        return "stopped"
    first.close()
    begun.checkpoints = None
    make_attempt(fast_dev_run.one_step_more(cfg), group, begun, parts, fast_dev_run.given_to_attempt(given))
    if _stopped_from_outside(begun, group):
        return "stopped"
    group.from_main(partial(fast_dev_run.report, cfg, group))
    return "done"


def _stopped_from_outside(begun: Begun, group: Dist) -> bool:
    """Return whether a rank got a stop signal or reached the time limit, also if it was after its last step."""
    return any(group.gather_objects(begun.stop is not None and bool(begun.stop.reason)))


def make_attempt(cfg: Config, group: Dist, begun: Begun, parts: ExitStack, given: Given | None = None) -> Status:
    """Make one attempt at a run: lock it, build, resume, train, report the result.

    Args:
        begun: receives what the ending of the attempt needs.
        parts: receives everything that must be closed after the attempt.
        given: objects from the calling program; None in a command. A command exits at once if another process takes
            over its run.
    """
    log_to_console(group.rank)
    stop = begun.stop = parts.enter_context(_stop_request(cfg, group, begun, exits=given is None))
    run = RunDir.of(cfg.run)
    lock = RunLock(run.lock) if given is None else RunLock(run.lock, partial(stop.fail, _lost(run)))
    with _held(lock, run, group):
        if cfg.distributed.preflight:
            check_nodes(group, run)
        begun.batch = MicroBatch(cfg, group.world_size)
        setup = build_setup(cfg, group, given or NOTHING_GIVEN, begun.batch)
        begun.checkpoints = setup.checkpoints
        parts.callback(setup.checkpoints.abandon)
        on_writers(group, setup.state.strategy.shares_saves, setup.checkpoints.start)
        try:
            return _train(setup, begun, parts, stop)
        except Exception:
            stop.settled()
            # A state copied before the error is valid: give the writer time to finish it.
            setup.checkpoints.finish(LAST_WRITE_S)
            raise
        except StopNow:
            setup.checkpoints.finish(LEAVING_WRITE_S)
            raise


def _stop_request(cfg: Config, group: Dist, begun: Begun, exits: bool) -> StopRequest:
    """Return the watch over signals and hangs.

    Args:
        exits: where the main thread does not leave a collective, end the process.
    """

    def exit_now(why: Why) -> None:
        assert begun.stop is not None
        if begun.checkpoints is not None:
            begun.checkpoints.finish(LEAVING_WRITE_S)
        if why == "stop":
            leave_at_once(leave(cfg, begun.stop.reason or "a stop signal", begun.number))
        leave_at_once(fail(cfg, begun.stop.hang(), begun.number))

    timeout_s = cfg.distributed.timeout_s
    watchdog = Watchdog(timeout_s, group.world_size == 1, exit_now if exits else None)
    return StopRequest(group, time_limit(cfg, time.time()), timeout_s, watchdog)


@contextmanager
def _held(lock: RunLock, run: RunDir, group: Dist) -> Iterator[None]:
    def take() -> None:
        with must_be_writable(run):
            lock.acquire()

    group.from_main(take)
    try:
        yield
    finally:
        if group.is_main:
            lock.release()


def _train(setup: Setup, begun: Begun, parts: ExitStack, stop: StopRequest) -> Status:
    group, hosts = setup.group, hosts_of(setup.group)
    stop.begin()
    begun.number = number = group.from_main(lambda: _begin(setup, hosts))
    recorder = Recorder(setup, number, hosts, lambda facts: open_loggers(setup.cfg, facts, setup.given.loggers))
    parts.callback(recorder.abandon)
    if finished(setup):
        why = setup.state.early_end(setup.cfg)
        log.info("%s is already finished%s", setup.run.path, f": {why}" if why else "")
    if group.is_main:
        import_ahead(setup.cfg.data.task)
        if not finished(setup):
            parts.enter_context(recording(setup.run.scan, setup.run.listing, setup.index, group.rank))
    on_writers(group, setup.state.strategy.shares_saves, setup.checkpoints.wait)  # until the writer is ready
    try:
        setup.state.hooks.start(_start(setup))
        status = fit(setup, recorder, stop)
        stop.settled()
        setup.state.hooks.end(status)
        end_loaders()
        setup.checkpoints.close()
    except Exception:
        recorder.abandon()
        with suppress(DistTrainError):  # a second error must not hide the first
            setup.state.hooks.end("failed")
        raise
    recorder.close(status, stop.reason)
    return status


def _start(setup: Setup) -> Start:
    group, step = setup.group, setup.state.progress.step
    return Start(setup.run.path, group.rank, group.world_size, step, setup.plan.total_steps)


def _begin(setup: Setup, hosts: list[str]) -> int:
    """Record a new attempt; not if the run is done, so that tables count no restart. Return the number of the attempt."""
    known = load_result(setup.run)
    if known.status == "done" and finished(setup) and not evaluation_pending(setup):
        remove_partial_files(setup.run)
        return known.attempt
    resumed = setup.state.progress.step > 0
    facts = setup.batch.facts()
    return begin_attempt(setup.run, setup.cfg, setup.group.world_size, hosts, gpu_names(), resumed, facts)


def _lost(run: RunDir) -> TakenError:
    return TakenError(
        f"another start has taken over the run {run.path}, or its folder was moved or removed; this start ends"
    )


def time_limit(cfg: Config, now: float) -> Limit | None:
    """Return ``train.time_limit`` or the end of the SLURM job, whichever comes first.

    Args:
        now: the Unix time in seconds.
    """
    limits = []
    if cfg.train.time_limit:
        limits.append(Limit(seconds_of(cfg.train.time_limit), f"train.time_limit={cfg.train.time_limit}"))
    if (seconds := seconds_of_job(now)) is not None:
        limits.append(Limit(seconds, f"end of the SLURM job, {JOB_END}={os.environ[JOB_END]}"))
    return min(limits, key=lambda limit: limit.seconds, default=None)
