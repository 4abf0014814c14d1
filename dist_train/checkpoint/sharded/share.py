"""Messages between the writers of a sharded save: small files in the unfinished checkpoint. Without torch.

A writer process has no collectives. When a rank's file is on disk, its writer puts a record beside it; after an error, the record
has its text. Rank 0's writer waits for the records of all others. The unfinished folder has a name of this save only, so that
no file of a killed start is taken.
"""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_train.system.files import read_json, write_json

NAME = re.compile(r"state\.\d+-of-\d+\.safetensors")
"""The name of a rank's file."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.5


class ShareError(RuntimeError):
    """Another rank has not written its file."""


@dataclass(frozen=True)
class Share:
    """The part of one rank in the save of a checkpoint.

    Attributes:
        rank, ranks: of this process; of the run.
        token: of this save, the same on every rank and different from that of every other save.
        limit_s: how long rank 0 waits for another rank that writes nothing, in seconds.
    """

    rank: int
    ranks: int
    token: str
    limit_s: float

    def of(self, rank: int) -> str:
        """Return the name of the file of a rank."""
        return f"state.{rank}-of-{self.ranks}.safetensors"

    @property
    def file(self) -> str:
        """Return the name of the file of this rank."""
        return self.of(self.rank)


def written(file: str, size: int, digest: str) -> dict[str, Any]:
    """Return what a manifest and a record say about the file of a rank."""
    return {"file": file, "bytes": size, "digest": digest}


def tell(folder: Path, share: Share, record: dict[str, Any]) -> None:
    """Write the record of this rank: what ``written`` returns, or ``{"error": TEXT}``. It need not survive a power loss."""
    write_json(_record(folder, share.file), record, durable=False)


def hear(folder: Path, share: Share) -> list[dict[str, Any]]:
    """Wait for the records of the other ranks. Return them in the order of ranks, and remove their files.

    Raises:
        ShareError: a rank could not write its file, or nothing has been written for ``share.limit_s`` seconds.
        OSError: the folder cannot be read.
    """
    names = [share.of(rank) for rank in range(1, share.ranks)]
    seen: dict[str, int] = {}
    waited_s, pause_s = 0.0, FIRST_PAUSE_S  # not by a clock, which goes on while the job is suspended
    while missing := _missing(folder, names):
        sizes = _sizes(folder)
        if sizes != seen:
            seen, waited_s = sizes, 0.0
        elif waited_s > share.limit_s:
            ranks = ", ".join(name.split(".")[1].split("-")[0] for name in missing)
            raise ShareError(f"nothing came from rank {ranks} for {share.limit_s:.0f} s (`distributed.timeout_s`)")
        time.sleep(pause_s)
        waited_s, pause_s = waited_s + pause_s, min(2 * pause_s, LONGEST_PAUSE_S)
    records = [read_json(_record(folder, name), default={}) for name in names]
    for name in names:
        _record(folder, name).unlink()
    return records


def _missing(folder: Path, names: list[str]) -> list[str]:
    """Return the files without a record. By a listing, since a network file system remembers that a single name was missing.

    Raises:
        ShareError: a record holds an error.
    """
    there = set(os.listdir(folder))
    for rank, name in enumerate(names, start=1):
        if _record(folder, name).name in there:
            record = read_json(_record(folder, name), default={})
            if error := record.get("error"):
                raise ShareError(f"rank {rank}: {error}")
    return [name for name in names if _record(folder, name).name not in there]


def _sizes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if NAME.fullmatch(entry.name)}


def _record(folder: Path, file: str) -> Path:
    return folder / f"{file}.json"
