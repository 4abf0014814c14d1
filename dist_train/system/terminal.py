"""What commands print, and where: log lines, errors, output files."""

import argparse
import errno
import io
import json
import logging
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TextIO

from dist_train.errors import EXIT_DONE, EXIT_FAILED, EXIT_USER, ConfigError, DistTrainError, ErrorKind
from dist_train.system.files import FULL, atomic_write, remove_leftovers
from dist_train.system.foreign_text import printable
from dist_train.system.private_folder import check_temporary_files
from dist_train.system.streams import own_stream

COLUMNS = 100
"""Largest width of a log line."""

PICTURES = (".png", ".svg", ".pdf")
"""Formats of pictures that matplotlib draws, by the suffix of the file."""

UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR)
"""Errors of a path that this user cannot use, whatever the program does."""

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


def wrapped(lines: Sequence[str], width: int = COLUMNS) -> str:
    """Return the lines as one text of at most ``width`` columns; what continues a line is indented."""
    fill = textwrap.TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False).fill
    return "\n".join(map(fill, lines))


def positive(text: str) -> int:
    """Return the whole number above 0 in ``text``; a type for argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)


def whole(text: str) -> int:
    """Return the whole number in ``text``, 0 or more; a type for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 0 or more")
    return int(text)


def given_path(text: str) -> Path:
    """Return the path in ``text``; a type for argparse. An empty text, as of an empty shell variable, is not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path is given (an empty shell variable?); the current folder is `.`")
    return Path(text)


def output_file(text: str) -> Path:
    """Return the path of a file to write; a type for argparse."""
    if os.path.isdir(given_path(text)) or text.endswith(os.sep):
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; name a file in it")
    return Path(text)


def output_folder(text: str) -> Path:
    """Return the path of a folder to write to; a type for argparse."""
    if os.path.exists(given_path(text)) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder; name another place")
    return Path(text)


@contextmanager
def writing_output(option: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` in the block into a ``ConfigError``: the user chose a path that we cannot write.

    Raises:
        ConfigError: with the option, the path and the reason.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{option} ({path}) cannot be written: {error.strerror or error}; choose another place"
        ) from None


def check_output(option: str, path: Path) -> None:
    """Create the folder of an output file, and check before the work that the file can be written.

    Raises:
        ConfigError: the file cannot be written.
    """
    if os.path.isdir(path):
        raise ConfigError(f"{option} ({path}) is a folder; name a file in it")
    with writing_output(option, path):
        if os.path.exists(path.parent) and not os.path.isdir(path.parent):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.stat()  # a name that is too long
        if not os.access(path.parent, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def written_whole(option: str, path: Path) -> Iterator[BinaryIO]:
    """Open an output file that gets its name when the block ends without an error; a pipe or a device, such as /dev/stdout, at once.

    Raises:
        ConfigError: it cannot be written.
    """
    check_output(option, path)
    with writing_output(option, path):
        number = own_stream(path)
        if number is not None or (path.exists() and not path.is_file()):
            sys.stdout.flush()
            with open(path if number is None else os.dup(number), "wb") as file:
                yield file
            return
        path = Path(os.path.realpath(path))  # a link stays, and what it points to is replaced
        remove_leftovers(path)
        with atomic_write(path) as file:
            yield file


def check_suffix(option: str, path: Path, suffixes: Sequence[str], hint: str = "") -> None:
    """Check that the name of an output file ends, in upper or lower case, in one of the formats that are written.

    Args:
        suffixes: with their dots, in lower case.
        hint: ends the message.

    Raises:
        ConfigError: it ends in something else.
    """
    if path.suffix.lower() not in suffixes:
        known = f"one of {', '.join(suffixes)}" if len(suffixes) > 2 else " or ".join(suffixes)
        raise ConfigError(f"{option} ({path}) must end in {known}{hint}")


def print_any_name() -> None:
    """Let stdout print file names that are not UTF-8, as their raw bytes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


def piped(command: Callable[[], int]) -> int:
    """Run a command and accept that the reader of its output stops early, as ``head`` does.

    Returns:
        The exit code of the command; 0 if the reader stopped; 1, after a message, if stdout is full or closed; 2, after a
        message, if no folder takes temporary files, or this user cannot use a path.

    Raises:
        KeyboardInterrupt: Ctrl-C; without a traceback if nobody catches it.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_the_rest()
        return EXIT_DONE
    except KeyboardInterrupt:
        sys.excepthook = _without_traceback
        raise  # Python ends as a process that the signal kills, so that a shell ends its loop too
    except OSError as error:
        if error.errno == errno.ENOENT and error.filename is None and (refused := _no_temporary_files()):
            return report(refused)
        if refused := fault_of_path(error):
            return report(refused)
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EBADF, errno.EIO, errno.EDQUOT):
            raise  # not by a write to stdout, which has no name
        _drop_the_rest()
        print(f"error: stdout cannot be written: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED


def fault_of_path(error: OSError) -> ConfigError | None:
    """Return the user's error for one of the file system; None for an error that names no path or may be a fault of ours."""
    if not isinstance(error.filename, str | bytes | os.PathLike) or error.errno not in (*UNUSABLE, *FULL):
        return None
    fix = "make room there" if error.errno in FULL else "check the path, and the rights of this user"
    return ConfigError(f"{os.fsdecode(error.filename)}: {error.strerror}; {fix}")


def _no_temporary_files() -> ConfigError | None:
    try:
        check_temporary_files()
    except ConfigError as error:
        return error
    return None


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print that the user has ended the command, and any other error as Python does."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    elif is_first_rank():
        print(f"{line_start(sys.stderr)}interrupted", file=sys.stderr)


def _drop_the_rest() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout once more at exit


def report(error: DistTrainError) -> int:
    """Print an error on stderr. An error of all ranks is printed once, by rank 0.

    torchrun may end rank 0 before it prints, since another rank has failed: it gets the message of each rank.

    Returns:
        The exit code for bad config or data.
    """
    with suppress(OSError):
        tell_torchrun("config", str(error))
    if is_first_rank() or error.of_one_rank:
        for line in str(error).splitlines():
            print(f"{line_start(sys.stderr)}error: {printable(line)}", file=sys.stderr, flush=True)
    return EXIT_USER


def tell_torchrun(kind: ErrorKind, message: str) -> None:
    """Write the message for torchrun's own report, if torchrun started this rank. Without it the report ends in a link.

    torchrun reports the earliest failure as the root cause, to the second. A rank that only lost its connection writes
    a later time, so that it is not reported as the cause.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        second = int(time.time()) + (kind == "comm")
        failure = {"message": message, "extraInfo": {"timestamp": str(second)}}
        Path(path).write_text(json.dumps({"message": failure}))


def line_start(stream: TextIO) -> str:
    """Return the escape codes that clear a progress bar of another process from the current line."""
    return "\r\x1b[K" if stream.isatty() else ""


def is_first_rank() -> bool:
    """Return whether this process is rank 0, by torchrun's environment variables."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def restored_log() -> Iterator[None]:
    """Restore the log handlers of this package after the block."""
    root = logging.getLogger("dist_train")
    handlers, level, propagate = root.handlers, root.level, root.propagate
    try:
        yield
    finally:
        root.handlers, root.propagate = handlers, propagate
        root.setLevel(level)


class _Printable(logging.Formatter):
    """Names in a message, such as those of files, cannot control the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message, keep="\n\t")
        return super().formatMessage(record)


def log_to_console(rank: int) -> None:
    """Print the log of this process on stdout: INFO and above on rank 0, WARNING and above on the others."""
    handler = logging.StreamHandler(sys.stdout)
    prefix = "" if rank == 0 else f"[rank {rank}] "
    begin = "" if rank == 0 else line_start(sys.stdout)
    handler.setFormatter(_Printable(f"{begin}%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
    root = logging.getLogger("dist_train")
    root.handlers = [handler]
    root.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    root.propagate = False
