"""stdout and stderr that are closed, full, or without a reader: a training goes on without them."""

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

NAMES = {1: "stdout", 2: "stderr"}
OWN = re.compile(r"/dev/(stdout|stderr)|/(?:dev|proc/self)/fd/(\d+)")
"""Paths of the files that this process has open."""


def own_stream(path: Path | None) -> int | None:
    """Return the number of the file that is open already and that a path such as ``/dev/stdout`` names; else None.

    It must not be opened by its path: with ``> file`` that would write from the beginning of the file, over what was printed.
    """
    found = OWN.fullmatch(str(path))
    return {"stdout": 1, "stderr": 2}.get(found[1]) or int(found[2]) if found else None


def texts_beside(path: Path | None) -> contextlib.AbstractContextManager[Any]:
    """Print on stderr in this block if ``path``, a file to write, is stdout: it then holds the file only."""
    return contextlib.redirect_stdout(sys.stderr) if own_stream(path) == 1 else contextlib.nullcontext()


def open_missing() -> None:
    """Open the null device for each of stdin, stdout and stderr that the caller has closed, as by ``2>&-``.

    Else the next file that this process opens takes the place, and gets what libraries print. A write to a stdout that was
    closed fails, so that no command loses its output without an error; one to stderr never does.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            os.dup2(opened, number)  # inheritable, unlike what `open` returns
            if opened != number:
                os.close(opened)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - open to the end
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - open to the end
    sys.stderr = sys.stderr or open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - open to the end
    sys.stderr = _patient(sys.stderr, 2)  # an error that cannot be printed still has its exit code


def go_on_without() -> None:
    """Drop what cannot be written to stdout or stderr from now on, and say so once on the other one.

    A stream that is not this process's own stdout or stderr, as in a notebook or a test, stays.
    """
    sys.stdout, sys.stderr = _patient(sys.stdout, 1), _patient(sys.stderr, 2)


def _patient(stream: Any, number: int) -> Any:
    try:
        if stream.fileno() != number or isinstance(stream.buffer.raw, _Patient):
            return stream
        stream.flush()
    except (AttributeError, OSError, ValueError):
        if not isinstance(stream, io.TextIOWrapper):
            return stream
    buffer = io.BufferedWriter(_Patient(number))
    immediately = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(buffer, stream.encoding, stream.errors, line_buffering=immediately)


class _Patient(io.RawIOBase):
    """A stream whose writes never fail."""

    def __init__(self, number: int) -> None:
        self._number, self._told = number, False

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        try:
            return os.write(self._number, data)
        except OSError as error:
            self._tell(error)
            return len(data)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            name, other = NAMES[self._number], 3 - self._number
            with contextlib.suppress(OSError):
                os.write(other, f"{name} cannot be written ({error.strerror}); the run goes on without it\n".encode())
