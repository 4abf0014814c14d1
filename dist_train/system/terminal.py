"""What commands print, and where: log lines, errors, output files."""

import argparse
import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dist_train.errors import EXIT_DONE, EXIT_USER, ConfigError, DistTrainError

COLUMNS = 100
"""The width that log lines are made for."""

CLOCK = "12:34:56 "
"""What the log puts in front of a row."""


def digits(value: float) -> str:
    """Return a number with 4 significant digits, in powers of ten only if it is very large or small.

    >>> [digits(value) for value in (0.123456, 87.5, 12345.6, 65536, 0.00001234, float("nan"))]
    ['0.1235', '87.5', '12346', '65536', '1.234e-05', 'nan']
    """
    if isinstance(value, int) or 1e4 <= abs(value) < 1e7:
        return f"{value:.0f}"
    return f"{value:.4g}"


def positive(text: str) -> int:
    """A number of ranks or images on the command line."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)


@contextmanager
def told_as_output(option: str, path: Path) -> Iterator[None]:
    """A file or folder that cannot be written is a mistake in the command.

    Raises:
        ConfigError: naming the option, the path and the reason.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{option} ({path}) cannot be written: {error.strerror or error}") from None


def can_write(option: str, path: Path) -> None:
    """Make the folder of a file that is written at the end of the work.

    Raises:
        ConfigError: the file cannot be written.
    """
    with told_as_output(option, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fault = errno.EISDIR if path.is_dir() else 0 if os.access(path.parent, os.W_OK) else errno.EACCES
        if fault:
            raise OSError(fault, os.strerror(fault))


def print_any_name() -> None:
    """Have stdout take names of files that are not UTF-8, as the bytes that they are."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


def piped(command: Callable[[], int]) -> int:
    """Run a command whose reader may leave before the end, as ``head`` does: that is no error.

    Returns:
        The command's exit code.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        return EXIT_DONE


def report(error: DistTrainError) -> int:
    """Print a user's error where a user looks, once: rank 0 tells what all ranks met.

    Returns:
        The exit code for bad config or data.
    """
    if is_first_rank() or error.of_one_rank:
        for line in str(error).splitlines():
            print(f"{line_start(sys.stderr)}error: {line}", file=sys.stderr, flush=True)
    return EXIT_USER


def line_start(stream: TextIO) -> str:
    """Return what clears the progress bar that another process may have drawn where the next line begins."""
    return "\r\x1b[K" if stream.isatty() else ""


def is_first_rank() -> bool:
    """Whether this process is rank 0, as torchrun's environment tells it."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def restored_log() -> Iterator[None]:
    """A block after which the package's log goes where it went before it."""
    root = logging.getLogger("dist_train")
    handlers, level, propagate = root.handlers, root.level, root.propagate
    try:
        yield
    finally:
        root.handlers, root.propagate = handlers, propagate
        root.setLevel(level)


def log_to_console(rank: int) -> None:
    """Send the log of this process to stdout."""
    handler = logging.StreamHandler(sys.stdout)
    prefix = "" if rank == 0 else f"[rank {rank}] "
    begin = "" if rank == 0 else line_start(sys.stdout)
    handler.setFormatter(logging.Formatter(f"{begin}%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
    root = logging.getLogger("dist_train")
    root.handlers = [handler]
    root.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    root.propagate = False
