"""Headers of safetensors files are read without torch, and one part of a state becomes a file of its own."""

import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dist_train.checkpoint.format import copy_into, lay_out
from dist_train.checkpoint.sharded.header import decoded, encoded, excerpt, read_header
from tests.support.states import state_of


def test_an_excerpt_is_the_file_of_one_part(tmp_path: Path) -> None:
    state, layout = state_of(2.0), lay_out(state_of(2.0))
    payload = bytearray(layout.payload_bytes)
    copy_into(payload, layout)
    head, ranges = excerpt(layout.header, "model")
    (tmp_path / "model").write_bytes(head + b"".join(payload[begin:end] for begin, end in ranges))
    loaded = safetensors.torch.load_file(tmp_path / "model")
    torch.testing.assert_close(loaded, state["model"], rtol=0, atol=0)


def test_a_header_is_read_as_other_programs_write_it(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2, 3)}, tmp_path / "file")
    header = read_header(tmp_path / "file")
    assert decoded(header)["a"] == {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    assert decoded(encoded(decoded(header))) == decoded(header)


@pytest.mark.parametrize("content", [b"", b"abc", struct.pack("<Q", 2**62) + b"{}x", struct.pack("<Q", 2) + b"[]"])
def test_a_damaged_header_is_an_error_and_takes_no_memory(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - of json, or ours
        decoded(read_header(tmp_path / "file"))
