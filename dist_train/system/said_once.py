"""An error that several ranks meet is printed by the first of them. Without messages between ranks, which may be lost: through a folder."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dist_train.system.start import whole_number

WAIT_S = 0.8
"""How long the first rank waits for the others. ``launch`` and torchrun end the other ranks a little later."""
STALE_S = 60.0
PREFIX = ".error-"


def say_once(folder: Path, text: str, say: Callable[[], object], add: Callable[[str], object]) -> None:
    """Print an error, unless another rank of this start has printed the same one.

    Args:
        folder: all ranks can write to it. If this rank cannot, it prints.
        text: the same on all ranks that have the same error.
        say: prints the error.
        add: prints on how many ranks it was, in the first of several.
    """
    ranks = whole_number("WORLD_SIZE", 1)
    if ranks == 1:
        say()
        return
    start = [os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")]
    place = folder / f"{PREFIX}{hashlib.sha256(repr([start, text]).encode()).hexdigest()[:16]}"
    try:
        place.mkdir()
    except FileExistsError:
        if not _joined(place):
            say()
        return
    except OSError:
        say()
        return
    say()
    number = _counted(place, ranks)
    if number > 1:
        add(f"the same on {number} of {ranks} ranks")


def remove_marks(folder: Path) -> None:
    """Remove what a rank has left that was killed while it waited for the others."""
    for place in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(place, ignore_errors=True)


def _joined(place: Path) -> bool:
    """Note this rank; return False if nobody has printed the error of this start."""
    with suppress(OSError):
        if time.time() - place.stat().st_mtime < STALE_S:
            (place / os.environ.get("RANK", "0")).touch()
            return True
    return False


def _counted(place: Path, ranks: int) -> int:
    """Return how many ranks have the error, after a moment for those that are slower."""
    give_up_at, number = time.monotonic() + WAIT_S, 1
    with suppress(OSError):
        while number < ranks and time.monotonic() < give_up_at:
            time.sleep(0.02)
            number = 1 + len(os.listdir(place))
    shutil.rmtree(place, ignore_errors=True)
    return number
