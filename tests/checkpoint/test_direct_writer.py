"""Writing without a copy of the state: the same bytes, from tensors of any layout."""

import os
from pathlib import Path

import pytest
import torch

from dist_train.checkpoint.direct_writer import PIECE, DirectWriter, payload_of
from dist_train.checkpoint.format import DTYPES, copy_into, lay_out
from dist_train.checkpoint.manifest import Job
from dist_train.checkpoint.sharded.header import excerpt
from tests.support.states import manifest_of, state_of


def test_the_payload_is_what_a_copy_would_hold() -> None:
    state = state_of(3) | {"large": torch.rand(PIECE // 4 + 10), "channels_last": torch.rand(2, 3, 4, 5).mT}
    state |= {str(dtype): torch.ones(3).to(dtype) for dtype in DTYPES}
    state["parameter"] = torch.nn.Parameter(torch.rand(3))
    layout = lay_out(state)
    memory = bytearray(layout.payload_bytes)
    copy_into(memory, layout)
    assert b"".join(payload_of(layout, 0, layout.payload_bytes)) == memory
    _, ranges = excerpt(layout.header, "model")
    assert ranges
    for begin, end in ranges:
        assert b"".join(payload_of(layout, begin, end)) == memory[begin:end]


def test_the_answer_is_there_when_begin_returns(tmp_path: Path) -> None:
    writer, layout = DirectWriter(), lay_out(state_of(1))
    writer.start()
    assert writer.answer() == "", "it is ready"
    for folder, words in ((tmp_path / "checkpoints", ""), (tmp_path / "a" / "b", "No such file")):
        writer.begin(Job(folder, None, manifest_of(1), 2, layout.header, layout.payload_bytes, []), layout, bool)
        assert writer.answers_within(0)
        assert words in writer.answer()
    writer.kill()
    writer.close()
    assert os.listdir(tmp_path / "checkpoints") == ["step_00000001"]


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 0, 3)])
def test_tensors_without_axes_or_values(shape: tuple[int, ...]) -> None:
    layout = lay_out({"a": torch.ones(shape)})
    assert len(b"".join(payload_of(layout, 0, layout.payload_bytes))) == layout.payload_bytes
