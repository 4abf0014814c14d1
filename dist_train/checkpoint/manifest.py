"""What a checkpoint is, and what its writer is told. No torch, so that the writer starts in a moment."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
STATE, MANIFEST = "state.safetensors", "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is, readable without opening it.

    Attributes:
        evaluated: saved after the evaluation of its step, where one was due.
        config: what of the config decides the run's arithmetic, by dotted key.
        bytes, sha256: of ``state.safetensors``.
    """

    step: int
    evaluated: bool
    world_size: int
    data_fingerprint: str
    config: dict[str, Any]
    bytes: int = 0
    sha256: str = ""
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a checkpoint that is known to be valid."""
        return cls(**json.loads((folder / MANIFEST).read_bytes()))

    @property
    def name(self) -> str:
        """The folder's name. One saved before the evaluation of its step sorts before the one saved after it."""
        return f"step_{self.step:08d}" + ("-evaluated" if self.evaluated else "")


@dataclass(frozen=True)
class Companion:
    """A file that belongs to a checkpoint: ``head``, and then these stretches (from, to) of its payload, in bytes."""

    path: Path
    head: bytes
    stretches: list[tuple[int, int]]


@dataclass(frozen=True)
class Job:
    """One checkpoint to write: ``header`` and then the first ``payload_bytes`` of the shared memory.

    ``rows`` is the file that a run goes on writing after this checkpoint: what it holds so far must be as durable.
    """

    folder: Path
    rows: Path | None
    manifest: Manifest
    keep: int
    header: bytes
    payload_bytes: int
    companions: list[Companion]
