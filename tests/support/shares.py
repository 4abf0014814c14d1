"""Shares of a sharded save, written by the code of the writer process, without one."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dist_train.checkpoint.direct_writer import payload_of
from dist_train.checkpoint.format import lay_out
from dist_train.checkpoint.manifest import ExtraFile, Job
from dist_train.checkpoint.sharded.piece import Piece
from dist_train.checkpoint.sharded.share import Share
from dist_train.checkpoint.writing import Payload, answer_of
from tests.support.states import manifest_of

LIMIT_S = 0.3


def divided(state: Any, rank: int, ranks: int) -> Any:
    """A state as one rank has it: every tensor that has rows is divided as FSDP2 does it."""
    if isinstance(state, dict):
        return {key: divided(value, rank, ranks) for key, value in state.items()}
    if not isinstance(state, Tensor) or not state.ndim:
        return state
    rows, every = -(-len(state) // ranks), len(state)
    begin = min(rank * rows, every)
    return Piece(state[begin : min(begin + rows, every)], begin, tuple(state.shape))


def share_of(
    folder: Path,
    state: Any,
    rank: int,
    ranks: int,
    step: int = 1,
    token: str = "a",
    best: Path | None = None,
    limit_s: float = LIMIT_S,
) -> tuple[Job, Payload]:
    """The job of one rank's writer, and the bytes of its tensors."""
    layout = lay_out(divided(state, rank, ranks), rank)
    files = [ExtraFile(best, b"", [], "model"), ExtraFile(best.with_name("said"), b"said", [])] if best else []
    share = Share(rank, ranks, token, limit_s)
    job = Job(folder, None, manifest_of(step), 2, layout.header, layout.payload_bytes, files, share)
    return job, partial(payload_of, layout)


def save_shares(folder: Path, state: Any, ranks: int, step: int = 1, best: Path | None = None) -> None:
    """Write all shares of a checkpoint, rank 0's last."""
    for rank in reversed(range(ranks)):
        answer = answer_of(*share_of(folder, state, rank, ranks, step, best=None if rank else best))
        assert not answer, answer


def equal(found: Any, expected: Any) -> bool:
    """Whether two states are the same, bit by bit."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[key], value) for key, value in expected.items())
    if isinstance(expected, Tensor):
        return found.dtype == expected.dtype and torch.equal(found, expected)
    return bool(found == expected)
