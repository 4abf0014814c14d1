"""Files that a user may not read. Root may read all, so a test by root becomes another user for a while."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def another_user() -> Iterator[None]:
    """Run the block as a user to whom the modes of files apply. What the block uses is imported before."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def public_folder() -> Iterator[Path]:
    """Yield a folder that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        for path in [path for path in Path(folder).rglob("*") if path.is_dir() and not path.is_symlink()]:
            path.chmod(0o755)
