"""Report a failed start: one sentence if the user can fix it, else a traceback; ``result.json`` records the cause."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from dist_train.config.schema import Config
from dist_train.distributed.failure_kind import kind_of
from dist_train.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_STOPPED,
    EXIT_USER,
    CommError,
    ConfigError,
    DistTrainError,
    ErrorKind,
    TooBigError,
)
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, Status, progress_of, read_result, write_refusal, write_result
from dist_train.system.private_folder import private_folder, temporary_folder
from dist_train.system.said_once import say_once
from dist_train.system.start import whole_number
from dist_train.system.terminal import report, tell_torchrun
from dist_train.training.parts.micro_batch import MicroBatch
from dist_train.training.report.explained import explained, first_line
from dist_train.training.stop_at_start import note_stop_at_start

log = logging.getLogger(__name__)


def record_failure(cfg: Config, error: Exception, attempt: int | None, batch: MicroBatch | None = None) -> Exception:
    """Write the cause of a failure to ``result.json``, if this process may write it (see ``write_failure``).

    Args:
        attempt: the number of the attempt; None if it had not started.
        batch: the micro-batch of this start, which is lowered after out of memory if the config allows it.

    Returns:
        The error, or a user error in its place that says what to do.
    """
    error = explained(error, cfg, batch)
    of_this_start = isinstance(error, DistTrainError) and error.of_this_start
    try:
        kind = kind_of(error)
        words = _lost_rank(error) if kind == "comm" else _words(error)
        tell_torchrun(kind, words)
        images = error.next_micro_batch if isinstance(error, TooBigError) else None
        message = words if words.startswith(f"rank {_rank()} ") else f"rank {_rank()}: {words}"
        write_failure(RunDir.of(cfg.run), kind, message, of_this_start, attempt, images)
    except OSError as write_error:
        log.error("cannot write the failure to result.json: %s", write_error)
    return error


def fail(cfg: Config, error: Exception, attempt: int | None, batch: MicroBatch | None = None) -> int:
    """Report a failure on the terminal and in ``result.json``; see ``record_failure``. The same error of several ranks is printed once.

    Returns:
        The exit code.
    """
    error = record_failure(cfg, error, attempt, batch)
    return _print_once(RunDir.of(cfg.run).path, error, partial(log.error, "%s"))


def fail_command(error: Exception) -> int:
    """Report the failure of a command on several ranks that writes no ``result.json``, such as ``evaluate``, on stderr.

    The same error of several ranks is printed once on each node, whose ranks share a temporary folder.

    Returns:
        The exit code.
    """
    try:
        place = private_folder(temporary_folder(), "TMPDIR")
    except ConfigError:
        place = Path(os.devnull)  # they share no folder: each rank prints
    if kind_of(error) == "comm":
        error = CommError(_lost_rank(error, "start the command again"))
    with suppress(OSError):
        tell_torchrun(kind_of(error), _words(error))
    return _print_once(place, error, partial(print, file=sys.stderr, flush=True))


def _print_once(place: Path, error: Exception, say: Callable[[str], object]) -> int:
    """Print an error. Return the exit code.

    Args:
        place: a folder that the ranks share, in which they agree who prints.
    """
    kind = kind_of(error)
    if kind == "comm":
        say(_lost_rank(error))
    elif not isinstance(error, DistTrainError):
        trace = "".join(traceback.format_exception(error)).rstrip()
        say_once(place, trace, partial(say, f"rank {_rank()} failed:\n{trace}"), say)
    elif error.of_one_rank:
        say_once(place, str(error), partial(report, error), say)
    else:
        report(error)
    return EXIT_USER if kind in ("config", "data") else EXIT_FAILED


def exit_code(status: Status) -> int:
    """Return the exit code of a run that is done or stopped.

    A stopped run exits 0 under torchrun, because torchrun restarts a worker with any other exit code; ``result.json`` holds
    the status.
    """
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    return EXIT_DONE if status == "done" or under_torchrun else EXIT_STOPPED


def leave(cfg: Config, reason: str, attempt: int | None) -> int:
    """Report a rank that leaves after a stop signal without a save, because it cannot stop with the others.

    Args:
        reason: the signal.
        attempt: the number of the attempt; None if the training had not begun.

    Returns:
        The exit code.
    """
    run = RunDir.of(cfg.run)
    step = run.saved_step()
    saved = f"the last checkpoint is that of step {step}" if step else "there is no checkpoint"
    what = f"left after {reason} without a save, " + ("while it waited" if attempt else "before the first step")
    log.warning("%s: %s; start the same command again to continue", what, saved)
    if attempt is None:
        if _rank() == 0:
            note_stop_at_start(run, what)
        return exit_code("stopped")
    known = read_result(run)
    try:
        if known.get("attempt") == attempt and known.get("status") == "running":
            write_result(run, Result(**progress_of(known) | {"step": step}, status="stopped", message=what))
    except OSError as error:
        log.error("cannot write the stop to result.json: %s", error)
    return exit_code("stopped")


def left_by_others(error: Exception, reason: str) -> bool:
    """Return whether a rank lost the others because all of them got a stop signal, ``reason``, and some left earlier."""
    return bool(reason) and kind_of(error) == "comm"


def for_program(error: Exception) -> Exception:
    """Return the error to raise in the calling program: a ``CommError`` in place of torch's or gloo's error."""
    if isinstance(error, DistTrainError) or kind_of(error) != "comm":
        return error
    return CommError(_lost_rank(error))


def _lost_rank(error: Exception, then: str = "the same command continues from the last checkpoint") -> str:
    if isinstance(error, CommError):
        return str(error)
    return (
        f"rank {_rank()} lost the connection to another rank, which has ended or cannot be reached: the output of that rank "
        f"says why, unless it was killed (out of memory, a node that failed); {then}. torch says: {first_line(str(error))}"
    )


def _words(error: Exception) -> str:
    """Return the message; with the name of the class, if the message was not written for a user (``KeyError: 'x'``)."""
    name = type(error).__name__
    return str(error) if isinstance(error, DistTrainError) else f"{name}: {error}" if str(error) else name


def _rank() -> int:
    return whole_number("RANK", 0)


def write_failure(
    run: RunDir,
    kind: ErrorKind,
    message: str,
    of_this_start: bool,
    attempt: int | None,
    next_micro_batch: int | None = None,
) -> None:
    """Write the cause to ``result.json``, with three exceptions.

    If only this start was refused, or the run is done, the run has not failed: a refusal is recorded instead. If a later
    attempt has started (this rank waited for a lost node), nothing is written. A rank that only lost its connection does
    not overwrite the cause that another rank reported.

    Raises:
        OSError: the file cannot be written.
    """
    known = read_result(run)
    if attempt is not None and known.get("attempt", 0) > attempt:
        return
    if known and (of_this_start or known.get("status") == "done"):
        write_refusal(run, kind, message)
    elif run.path.is_dir() and (kind != "comm" or known.get("status", "running") == "running"):
        failure = {"status": "failed", "error": kind, "message": message, "next_micro_batch": next_micro_batch}
        write_result(run, Result(**progress_of(known) | failure))
