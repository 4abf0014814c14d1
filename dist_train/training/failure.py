"""Report a start that fails: a sentence for what a user can fix, a traceback for the rest, the cause in ``result.json``."""

import json
import logging
import os
import re
import time
import traceback
from pathlib import Path

import torch

from dist_train.config.schema import Config
from dist_train.data.workers import loader_processes
from dist_train.distributed.failure_kind import kind_of
from dist_train.errors import EXIT_FAILED, EXIT_USER, CommError, ConfigError, DistTrainError, ErrorKind, TooBigError
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, read_result, write_refusal, write_result
from dist_train.system.terminal import report

log = logging.getLogger(__name__)


def noted(cfg: Config, error: Exception, attempt: int | None) -> Exception:
    """Write the cause of a failure to ``result.json``, where that is ours to write.

    Args:
        attempt: which one of the run it was; None if it had not begun.

    Returns:
        The error, or in its place a user's error that says what to do.
    """
    error = explained(error, cfg)
    of_this_start = isinstance(error, DistTrainError) and error.of_this_start
    try:
        kind = kind_of(error)
        tell_torchrun(kind, str(error))
        note_failure(RunDir.of(cfg.run), kind, f"rank {_rank()}: {error}", of_this_start, attempt)
    except OSError as trouble:
        log.error("the failure could not be noted: %s", trouble)
    return error


def fail(cfg: Config, error: Exception, attempt: int | None) -> int:
    """Tell of a failure, on the terminal and in ``result.json``; see ``noted``.

    Returns:
        The exit code.
    """
    error = noted(cfg, error, attempt)
    kind = kind_of(error)
    if isinstance(error, DistTrainError) and kind != "comm":
        report(error)
    elif kind == "comm":
        log.error("%s", _lost_rank(error))
    else:
        log.error("rank %d failed:\n%s", _rank(), traceback.format_exc())
    return EXIT_USER if kind in ("config", "data") else EXIT_FAILED


def for_program(error: Exception) -> Exception:
    """The error that a program gets to see: a lost rank shows as an error of torch's or gloo's."""
    if isinstance(error, DistTrainError) or kind_of(error) != "comm":
        return error
    return CommError(_lost_rank(error))


def _lost_rank(error: Exception) -> str:
    return f"rank {_rank()} lost another rank: {str(error).splitlines()[0]}"


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def tell_torchrun(kind: ErrorKind, message: str) -> None:
    """Give torchrun, if it started this rank, the sentence with which its own report ends; else that is a link.

    torchrun calls the earliest failure the cause, by its whole second. A rank that merely lost another comes after it.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        second = int(time.time()) + (kind == "comm")
        told = {"message": message, "extraInfo": {"timestamp": str(second)}}
        Path(path).write_text(json.dumps({"message": told}))


def note_failure(run: RunDir, kind: ErrorKind, message: str, of_this_start: bool, attempt: int | None) -> None:
    """Write the cause to ``result.json``, if that is ours to write.

    It is not where this start alone was turned away, or the run is done: then nothing of the run has failed; nor where a
    later attempt is at work, while this rank has waited for a lost node. And a rank that merely lost another does
    not write over that rank's report.

    Raises:
        OSError: the disk does not take it.
    """
    known = read_result(run)
    if attempt is not None and known.get("attempt", 0) > attempt:
        return
    if known and (of_this_start or known.get("status") == "done"):
        write_refusal(run, kind, message)
    elif run.path.is_dir() and (kind != "comm" or known.get("status") == "running"):
        fields = {
            key: known[key] for key in ("attempt", "step", "total_steps", "best", "last", "weights") if key in known
        }
        write_result(run, Result(**fields, status="failed", error=kind, message=message))


def explained(error: Exception, cfg: Config) -> Exception:
    """``error``, or in its place a user's error that says what to do."""
    return _disk(error, RunDir.of(cfg.run)) or _memory(error, cfg) or _loader(error, cfg) or _randomness(error) or error


def _disk(error: Exception, run: RunDir) -> Exception | None:
    if not isinstance(error, OSError) or not isinstance(error.filename, str):
        return None
    path = Path(error.filename)
    if not (path.is_relative_to(run.path) or run.path.is_relative_to(path)):
        return None
    return _of_this_rank(
        f"{path}: {error.strerror}; what the run has saved is intact: mend the disk, or choose another "
        "`run.output_dir`, and start the same command again"
    )


def _memory(error: Exception, cfg: Config) -> Exception | None:
    words = str(error)
    if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in words:
        return None
    images = cfg.train.micro_batch or cfg.train.global_batch // int(os.environ.get("WORLD_SIZE", "1"))
    return TooBigError(
        f"`train.micro_batch` ({images}) is too much for the memory: lower it (the batch of a step stays, by accumulation), "
        "or use `model.grad_checkpointing`, `train.precision=amp_bf16` or a smaller `data.image_size`; in an evaluation it "
        f"is `eval.batch_size` ({cfg.eval.batch_size}). torch says: {_first_line(words.split('DefaultCPUAllocator: ')[-1])}"
    )


def _loader(error: Exception, cfg: Config) -> Exception | None:
    """torch raises this from wherever the training process is when it learns of the death."""
    told = re.match(r"DataLoader worker .*(is killed by signal|exited unexpectedly)", str(error))
    if not told and not _while_handing_over(error):
        return None
    return _of_this_rank(
        "a loader process was killed, mostly by the kernel or SLURM for want of memory: lower `data.workers` "
        f"({loader_processes(cfg.data)}) or `data.prefetch` ({cfg.data.prefetch}), or ask for more memory; the same command goes on from "
        f"what is saved. torch says: {_first_line(str(error))}"
    )


def _while_handing_over(error: Exception) -> bool:
    """Whether a loader process went away while it passed on the file descriptors of a batch."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ConnectionError | EOFError) and any(
        Path(frame.filename).name == "resource_sharer.py" for frame in frames
    )


def _randomness(error: Exception) -> Exception | None:
    operator, refused, _ = str(error).partition(" does not have a deterministic implementation")
    if not refused:
        return None
    return ConfigError(
        f"`run.deterministic` (true) is impossible with this model on a GPU: torch's {operator} has no deterministic "
        "form; set it to false, or choose another model"
    )


def _of_this_rank(message: str) -> DistTrainError:
    error = DistTrainError(message)
    error.of_one_rank = True
    return error


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
