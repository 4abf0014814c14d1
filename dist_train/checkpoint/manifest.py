"""The manifest of a checkpoint, and the job for the writer process. Without torch, so that the writer starts quickly."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any

from dist_train.checkpoint.digests import ALGORITHM
from dist_train.system.files import MOST_JSON, read_bounded

FORMAT = 2
"""2: the digest of the state is not always a SHA-256. A version that reads format 1 only refuses such a checkpoint."""
READABLE = (1, 2)
_KINDS: dict[str, tuple[type, ...]] = {
    "evaluated": (bool,),
    "data_fingerprint": (str,),
    "config": (dict,),
    "total_steps": (int, NoneType),
    "schedule_starts": (list, NoneType),
    "algorithm": (str,),
    "digest": (str,),
    "sha256": (str,),
}
"""The types of a manifest's fields that are not int alone."""
STATE, MANIFEST = "state.safetensors", "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """The facts about a checkpoint, readable without opening ``state.safetensors``.

    Attributes:
        evaluated: whether it was saved after the evaluation of its step.
        config: the config values that change the weights, by dotted key.
        total_steps, schedule_starts: of the plan (config/plan.py). Versions before 0.2.0 did not record them: None.
        bytes: the size of ``state.safetensors``.
        algorithm, digest: a row of ``digests.ALGORITHMS``, and the digest of ``state.safetensors``.
        sha256: the digest in format 1. Empty in format 2, but there: versions that read format 1 only look for it first.
    """

    step: int
    evaluated: bool
    world_size: int
    data_fingerprint: str
    config: dict[str, Any]
    total_steps: int | None = None
    schedule_starts: list[int] | None = None
    bytes: int = 0
    algorithm: str = ALGORITHM
    digest: str = ""
    sha256: str = ""
    format: int = FORMAT

    @classmethod
    def parse(cls, text: str) -> "Manifest":
        """Return the manifest in a JSON text.

        Raises:
            ValueError: it is damaged, or somebody else's.
        """
        try:
            found = cls(**json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"no manifest: {error}") from None
        right = all(type(getattr(found, field.name)) in _KINDS.get(field.name, (int,)) for field in fields(cls))
        if not right or found.step < 0 or any(type(step) is not int for step in found.schedule_starts or ()):
            raise ValueError("a field of the manifest has the wrong type")
        return found

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a checkpoint that is known to be valid."""
        return cls.parse(read_bounded(folder / MANIFEST, MOST_JSON).decode())

    @property
    def expected(self) -> tuple[str, str]:
        """Return the algorithm and the digest with which ``state.safetensors`` was written."""
        return ("sha256", self.sha256) if self.format == 1 else (self.algorithm, self.digest)

    @property
    def name(self) -> str:
        """Return the folder's name. The checkpoint saved after a step's evaluation sorts after the one saved before it."""
        return f"step_{self.step:08d}" + ("-evaluated" if self.evaluated else "")


@dataclass(frozen=True)
class ExtraFile:
    """A file to publish with a checkpoint: ``head``, then these byte ranges (from, to) of the checkpoint's payload."""

    path: Path
    head: bytes
    ranges: list[tuple[int, int]]


@dataclass(frozen=True)
class Job:
    """One checkpoint to write: ``header``, then ``payload_bytes`` of tensors.

    Attributes:
        rows: ``metrics.jsonl``; the writer flushes it to disk too, so that no row before the checkpoint can get lost.
        keep: how many checkpoints to keep.
    """

    folder: Path
    rows: Path | None
    manifest: Manifest
    keep: int
    header: bytes
    payload_bytes: int
    extra_files: list[ExtraFile]
