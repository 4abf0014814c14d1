"""Print a message of an uploader as one line."""

import sys
from contextlib import suppress

from dist_train.system.foreign_text import printable
from dist_train.system.terminal import line_start


def announce(service: str, message: str) -> None:
    """Print one line on stderr."""
    with suppress(OSError):  # a full or closed stderr ends no upload
        print(f"{line_start(sys.stderr)}{service}: {printable(message)}", file=sys.stderr, flush=True)


def one_line(error: Exception) -> str:
    """Return an error of a client as the part of a sentence."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")
