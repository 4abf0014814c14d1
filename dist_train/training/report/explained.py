"""Errors of the machine, of torch and of loader processes, in words that say what to do."""

import re
import traceback
from pathlib import Path

import torch

from dist_train.config.schema import Config
from dist_train.data.workers import loader_processes
from dist_train.errors import ConfigError, DistTrainError, TooBigError
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.system.start import whole_number
from dist_train.training.parts.micro_batch import MicroBatch


def explained(error: Exception, cfg: Config, batch: MicroBatch | None = None) -> Exception:
    """Return ``error``, or a user error in its place that says what to do."""
    return (
        _disk(error, RunDir.of(cfg.run))
        or _memory(error, cfg, batch)
        or _loader(error, cfg)
        or _randomness(error)
        or error
    )


def _disk(error: Exception, run: RunDir) -> Exception | None:
    if not isinstance(error, OSError) or not isinstance(error.filename, str):
        return None
    path = Path(error.filename)
    if not (path.is_relative_to(run.path) or run.path.is_relative_to(path)):
        return None
    return _of_this_rank(
        f"{path}: {error.strerror}; the saved checkpoints are intact: fix the disk and start the same command again, "
        "or choose another `run.output_dir`"
    )


def _memory(error: Exception, cfg: Config, batch: MicroBatch | None) -> Exception | None:
    words = str(error)
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in words:
        return None
    torch_says = f"The error says: {first_line(words.split('DefaultCPUAllocator: ')[-1]) or type(error).__name__}"
    given = cfg.train.micro_batch
    images = (batch.used if batch else None) or (given if isinstance(given, int) else None)
    images = images or cfg.train.global_batch // whole_number("WORLD_SIZE", 1)
    if batch is not None and (smaller := batch.lowered(read_result(RunDir.of(cfg.run)).get("step", 0))):
        return TooBigError(
            f"out of memory with {images} images per rank; the same command goes on from the last checkpoint with "
            f"train.micro_batch={smaller}. {torch_says}",
            smaller,
        )
    allowed = (
        " set train.micro_batch_may_change=true (the model has a BatchNorm that trains),"
        if batch and batch.forbidden()
        else ""
    )
    return TooBigError(
        f"out of memory with train.micro_batch={images}:{allowed} lower it (gradient accumulation keeps the global batch), or use "
        "model.grad_checkpointing=true, train.precision=amp_bf16 or a smaller data.image_size; if this happened in an "
        f"evaluation, lower eval.batch_size (now {cfg.eval.batch_size}). {torch_says}"
    )


def _loader(error: Exception, cfg: Config) -> Exception | None:
    died = re.match(r"DataLoader worker .* exited unexpectedly", str(error))
    if not died and not _while_sending(error):
        return None
    return _of_this_rank(
        "a loader process was killed. The usual cause is that the host or the SLURM job ran out of memory: lower "
        f"`data.workers` ({loader_processes(cfg.data)}) or `data.prefetch` ({cfg.data.prefetch}), or request more memory; "
        f"the same command continues from the last checkpoint. torch says: {first_line(str(error))}"
    )


def _while_sending(error: Exception) -> bool:
    """Return whether a loader process died while it sent the file descriptors of a batch."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ConnectionError | EOFError) and any(
        Path(frame.filename).name == "resource_sharer.py" for frame in frames
    )


def _randomness(error: Exception) -> Exception | None:
    operator, refused, _ = str(error).partition(" does not have a deterministic implementation")
    if not refused:
        return None
    return ConfigError(
        f"`run.deterministic` (true) does not work with this model on a GPU: torch has no deterministic implementation "
        f"of {operator}; set run.deterministic=false, or choose another model"
    )


def _of_this_rank(message: str) -> DistTrainError:
    error = DistTrainError(message)
    error.of_one_rank = True
    return error


def first_line(text: str) -> str:
    """Return the first line that is not empty."""
    return next(iter(text.strip().splitlines()), "")
