"""Record sizes and times of the files of a large data set, which its scan leaves out, in the background while training begins.

``python -m dist_train.data.stored.record RANK SCAN LISTING`` writes them into the stored scan of the run and into its listing; later
starts compare the files with them. If a run ends before that, its next start records them.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dist_train.data.changed_files import is_listed, save_listing
from dist_train.data.formats.images import FileImages
from dist_train.data.index import DataIndex
from dist_train.data.split import Split, SplitName
from dist_train.data.stored.file_facts import known_of
from dist_train.data.stored.scan_file import SPLITS, read_scan, write_scan
from dist_train.system.files import remove_leftovers
from dist_train.system.processes import die_with_parent
from dist_train.system.progress import shown
from dist_train.system.signals import ignore_stop_signals
from dist_train.system.terminal import log_to_console

log = logging.getLogger("dist_train.data.stored.record")

BLOCK = 65_536
"""Number of files whose names are decoded at a time."""


@contextmanager
def recording(scan: Path, listing: Path, index: DataIndex, rank: int) -> Iterator[None]:
    """Record sizes and times of all files in a background process, if the index has no sizes. For rank 0.

    The end of the block kills the process if it is not done.

    Args:
        scan, listing: the files of the run folder to write.
    """
    if index.has_sizes or not isinstance(index.images, FileImages):
        yield
        return
    process = _started(scan, listing, rank)
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()
            for path in (scan, listing):
                remove_leftovers(path)


def _started(scan: Path, listing: Path, rank: int) -> "subprocess.Popen[bytes] | None":
    words = [sys.executable, "-m", "dist_train.data.stored.record", str(rank), str(scan), str(listing)]
    modules = os.pathsep.join(filter(None, sys.path))
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": modules, "CUDA_VISIBLE_DEVICES": ""},
        )
    except OSError as error:
        log.warning("data: sizes and times of the files are not recorded (%s); the next start tries again", error)
        return None
    threading.Thread(target=process.wait, name="data record", daemon=True).start()  # or its end leaves a zombie
    return process


def main() -> None:
    """Run as the background process of ``recording``."""
    die_with_parent()
    ignore_stop_signals()
    os.nice(19)
    rank, scan, listing = sys.argv[1:]
    log_to_console(int(rank))
    try:
        record(Path(scan), Path(listing))
    except OSError as error:
        log.warning("data: sizes and times of the files are not recorded (%s); the next start tries again", error)


def record(scan: Path, listing: Path) -> None:
    """Write sizes and times of all files into the stored scan ``scan``, and ``listing`` if there is none.

    If there is a listing with other sizes, the stored scan stays without sizes: so the next start compares them, and refuses.

    Raises:
        OSError: a file cannot be written.
    """
    for path in (scan, listing):
        remove_leftovers(path)
    kept = read_scan(scan)
    if kept is None or kept.index.has_sizes:
        return
    index, root = kept.index, kept.index.images.root  # type: ignore[attr-defined]
    total = len(index.train) + len(index.val)
    with shown(f"data: recording sizes and times of the files in {index.root}", "files", total):
        found = {name: _facts(root, index.split(name)) for name in SPLITS}
    _warn_of_changes(index, found, kept.began_ns)
    splits = {name: replace(index.split(name), sizes=facts.sizes) for name, facts in found.items()}
    index = replace(index, train=splits["train"], val=splits["val"])
    if listing.exists() and not is_listed(listing, index):
        log.warning("data: files in %s have other sizes than when this run began; its next start will name them", root)
        return
    times = {name: facts.changed_ns for name, facts in found.items()}
    write_scan(scan, replace(kept, index=index, changed_ns=times))
    if not listing.exists():
        save_listing(listing, index)
    log.info("data: sizes and times of %s files are recorded", f"{total:,}")


@dataclass(frozen=True)
class _Facts:
    """What the system knows of the files of a split.

    Attributes:
        sizes: int64 [N], in bytes; -1 for a file that is missing.
        changed_ns: int64 [N], in ns since 1970: when the content of a file was changed (mtime; programs can set it).
        touched_ns: int64 [N], in ns since 1970: when a file or its attributes were changed (ctime; programs cannot set it).
    """

    sizes: NDArray[np.int64]
    changed_ns: NDArray[np.int64]
    touched_ns: NDArray[np.int64]


def _facts(root: str, split: Split) -> _Facts:
    found = _Facts(*(np.full(len(split), -1, np.int64) for _ in range(3)))
    for start in range(0, len(split), BLOCK):
        names = [split.name(place) for place in range(start, min(start + BLOCK, len(split)))]
        for place, status in enumerate(known_of(root, names), start):
            if status is not None:
                found.sizes[place] = status.st_size
                found.changed_ns[place], found.touched_ns[place] = status.st_mtime_ns, status.st_ctime_ns
    return found


def _warn_of_changes(index: DataIndex, found: dict[SplitName, _Facts], began_ns: int) -> None:
    """Warn of files that were changed or removed between the scan and the record."""
    names = [
        split.name(place)
        for split, facts in ((index.train, found["train"]), (index.val, found["val"]))
        for place in np.flatnonzero((facts.touched_ns > began_ns) | (facts.sizes < 0)).tolist()
    ]
    if names:
        log.warning(
            "data: %s files in %s were changed or removed since the run began to read the data, such as %s; the run records "
            "their present sizes",
            f"{len(names):,}",
            index.root,
            names[0],
        )


if __name__ == "__main__":
    main()
