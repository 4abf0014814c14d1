"""Buffers of every format travel in one message."""

from typing import Any

import torch

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import joined
from tests.support.ranks import run_ranks


class _Buffers(torch.nn.Module):
    """Buffers of many formats and shapes; each rank has other content."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        for name, dtype in (
            ("bools", torch.bool),
            ("halves", torch.bfloat16),
            ("counts", torch.int16),
            ("means", torch.float32),
        ):
            self.register_buffer(name, torch.full((3,), rank + 1).to(dtype))
        self.register_buffer("scalar", torch.tensor(rank + 0.5, dtype=torch.float64))
        self.register_buffer("complex", torch.full((2,), rank + 2j))
        self.register_buffer("columns", torch.full((4, 2), float(rank)).t())
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("sparse", torch.eye(2).to_sparse() * rank)


def _broadcast_buffers() -> tuple[dict[str, Any], int]:
    """The buffers afterwards, and the number of messages."""
    with joined(DistributedConfig(timeout_s=30)) as group:
        model, messages = _Buffers(group.rank), []
        broadcast = torch.distributed.broadcast
        torch.distributed.broadcast = lambda *args, **keys: [messages.append(1), broadcast(*args, **keys)]
        group.broadcast_buffers(model)
        torch.distributed.broadcast = broadcast
        return {name: buffer.to_dense().tolist() for name, buffer in model.named_buffers()}, len(messages)


def test_buffers_of_every_format_travel_in_one_message() -> None:
    (first, messages), (second, _) = run_ranks(2, _broadcast_buffers)
    assert messages == 1
    own = {name: buffer.to_dense().tolist() for name, buffer in _Buffers(0).named_buffers()}
    assert first == own
    assert second == {**own, "sparse": _Buffers(1).get_buffer("sparse").to_dense().tolist()}, "sparse ones stay"
