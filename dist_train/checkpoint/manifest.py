"""The manifest of a checkpoint, and the job for the writer process. Without torch, so that the writer starts quickly."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from dist_train.checkpoint.digests import ALGORITHM
from dist_train.checkpoint.sharded.share import NAME, Share
from dist_train.system.files import MOST_JSON, read_bounded

FORMAT = 2
"""2: the digest of the state is not always a SHA-256. A version that reads format 1 only refuses such a checkpoint."""
SHARDED = 3
"""The format of a checkpoint with a file of each rank."""
READABLE = (1, 2, 3)
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
        shards: in format 3, the file of each rank with its size and digest. ``bytes`` is then their sum, and ``digest`` that of
            their digests.
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
    shards: list[dict[str, Any]] = field(default_factory=list)

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
        wrong = [name for name, hint in get_type_hints(cls).items() if not _is_of(getattr(found, name), hint)]
        if not wrong and (bool(found.shards) != (found.format == SHARDED) or not all(map(_is_file, found.shards))):
            wrong = ["shards"]
        if wrong or found.step < 0:
            raise ValueError(
                f"no manifest: {', '.join(wrong) or 'step'} cannot be {getattr(found, (*wrong, 'step')[0])!r:.40}"
            )
        return found

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a checkpoint that is known to be valid."""
        return cls.parse(read_bounded(folder / MANIFEST, MOST_JSON).decode())

    @property
    def text(self) -> str:
        """Return the JSON text. A checkpoint that is not sharded has no ``shards`` in it."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "shards" or value}, indent=2)

    @property
    def files(self) -> list[tuple[str, int, str]]:
        """Return the files of the state, in the order of ranks: name, size, digest."""
        if self.shards:
            return [(shard["file"], shard["bytes"], shard["digest"]) for shard in self.shards]
        return [(STATE, self.bytes, self.expected[1])]

    @property
    def expected(self) -> tuple[str, str]:
        """Return the algorithm and the digest with which ``state.safetensors`` was written."""
        return ("sha256", self.sha256) if self.format == 1 else (self.algorithm, self.digest)

    @property
    def name(self) -> str:
        """Return the folder's name. The checkpoint saved after a step's evaluation sorts after the one saved before it."""
        return f"step_{self.step:08d}" + ("-evaluated" if self.evaluated else "")


def _is_of(value: Any, hint: Any) -> bool:
    """Return whether a value of a JSON text is of the type that a field of ``Manifest`` declares."""
    if isinstance(hint, UnionType):
        return any(_is_of(value, one) for one in get_args(hint))
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_is_of(item, get_args(hint)[0]) for item in value)
    return type(value) is (get_origin(hint) or hint)


def _is_file(shard: dict[str, Any]) -> bool:
    kinds = {name: type(value) for name, value in shard.items()}
    return kinds == {"file": str, "bytes": int, "digest": str} and bool(NAME.fullmatch(shard["file"]))


@dataclass(frozen=True)
class ExtraFile:
    """A file to publish with a checkpoint: ``head``, then these byte ranges (from, to) of the checkpoint's payload.

    Attributes:
        part: of a sharded checkpoint: the part of the state that the file holds, put together from the files of all ranks.
    """

    path: Path
    head: bytes
    ranges: list[tuple[int, int]]
    part: str = ""


@dataclass(frozen=True)
class Job:
    """One checkpoint to write: ``header``, then ``payload_bytes`` of tensors.

    Attributes:
        rows: ``metrics.jsonl``; the writer flushes it to disk too, so that no row before the checkpoint can get lost.
        keep: how many checkpoints to keep.
        share: this rank's part of a sharded checkpoint; None for a checkpoint that rank 0 writes alone.
    """

    folder: Path
    rows: Path | None
    manifest: Manifest
    keep: int
    header: bytes
    payload_bytes: int
    extra_files: list[ExtraFile]
    share: Share | None = None
