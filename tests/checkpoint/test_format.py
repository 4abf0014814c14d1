"""A state becomes one safetensors file, and comes back as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from dist_train.checkpoint.format import (
    DTYPES,
    copy_into,
    lay_out,
    put_together,
    read_safetensors,
    read_weights,
    save_weights,
)
from dist_train.errors import ConfigError


def _file(path: Path, state: Any) -> tuple[Path, bytearray]:
    layout = lay_out(state)
    payload = bytearray(layout.payload_bytes)
    if payload:
        copy_into(payload, layout)
    path.write_bytes(layout.header + payload)
    return path, payload


def _state() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "model": {"turned": torch.rand(3, 4).T, "odd": torch.arange(3, dtype=torch.uint8), "scalar": torch.tensor(0.5)},
        "optimizer": {0: {"step": torch.tensor(3.0), "betas": (0.9, 0.999)}, 1: {}},
        "progress": {"best": None, "history": [1, (2, None)], "done": False, "share": 0.1, "empty": torch.empty(0, 4)},
    }


def test_everything_comes_back_keys_and_tuples_included(tmp_path: Path) -> None:
    path, _ = _file(tmp_path / "s", _state())
    found, expected = put_together(*read_safetensors(path)), _state()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert list(found["optimizer"]) == [0, 1]
    assert found["optimizer"][0]["betas"] == (0.9, 0.999)
    assert found["progress"]["history"] == [1, (2, None)]
    assert found["progress"]["empty"].shape == (0, 4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_read_by_the_public_library(tmp_path: Path, dtype: torch.dtype) -> None:
    odd = torch.ones(3, dtype=torch.bool)
    value = torch.tensor([1, 0, 3]).to(dtype)
    path, _ = _file(tmp_path / "s", {"odd": odd, "value": value})
    loaded = safetensors.torch.load_file(path)
    assert loaded["state.value"].dtype == dtype
    assert torch.equal(loaded["state.value"], value)


def test_offsets_are_aligned_and_without_gaps() -> None:
    layout = lay_out(_state())
    end = 0
    for offset, tensor in layout.tensors:
        assert offset == end
        assert offset % tensor.itemsize == 0
        end += tensor.nbytes
    assert end == layout.payload_bytes
    assert len(layout.header) % 8 == 0, "so that the payload is aligned in the file too"


def test_a_state_without_tensors_is_a_file_too(tmp_path: Path) -> None:
    path, payload = _file(tmp_path / "s", {"a": [1, {"b": ()}]})
    assert not payload
    assert put_together(*read_safetensors(path)) == {"a": [1, {"b": ()}]}


def test_copying_reads_the_tensors_as_they_are_now() -> None:
    values = torch.zeros(4)
    layout = lay_out({"a": values})
    values.fill_(2)
    memory = bytearray(layout.payload_bytes)
    copy_into(memory, layout)
    assert np.frombuffer(memory, np.float32).tolist() == [2.0] * 4


def test_bytes_and_text_of_modules_are_in_a_file_of_weights_too(tmp_path: Path) -> None:
    state = {
        "a.w": torch.ones(2),
        "a._extra_state": {"raw": b"\x00\xff", 5: (1, None), "t": torch.zeros(3)},
        "_extra_state": "x",
    }
    save_weights(tmp_path / "w.safetensors", state)
    found = read_weights(tmp_path / "w.safetensors")
    assert found.keys() == state.keys()
    assert found["_extra_state"] == "x"
    assert found["a.w"].equal(torch.ones(2))
    assert found["a._extra_state"].pop("t").equal(torch.zeros(3))
    assert found["a._extra_state"] == {"raw": b"\x00\xff", 5: (1, None)}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.eye(2).to_sparse(), "`model.x` is a tensor of torch.float32, torch.sparse_coo"),
        (torch.ones(2, dtype=torch.complex128), "`model.x` is a tensor of torch.complex128"),
        ({1, 2}, "`model.x` is a set"),
        ({"a": [object()]}, "`model.x.a.0` is a object"),
        ({(1, 2): 3}, r"`model.x` is a dict with the key \(1, 2\)"),
    ],
)
def test_what_the_file_cannot_hold_is_named(value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        lay_out({"model": {"x": value}})
