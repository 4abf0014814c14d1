"""A sharded checkpoint is read file by file; one with a missing, damaged or foreign file is set aside."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from dist_train.checkpoint.manifest import Manifest
from dist_train.checkpoint.sharded.piece import Rows
from dist_train.checkpoint.sharded.reading import load_sharded
from dist_train.checkpoint.stored import load, newest
from tests.support.shares import equal, save_shares
from tests.support.states import state_of

FILE = "state.1-of-2.safetensors"


def test_divided_tensors_are_read_when_their_rows_are_asked_for(tmp_path: Path) -> None:
    save_shares(tmp_path, state_of(3.0), 2)
    files = [tmp_path / "step_00000001" / f"state.{rank}-of-2.safetensors" for rank in range(2)]
    assert equal(load_sharded(files), state_of(3.0))
    turned = load_sharded(files, by_rows=True)["turned"]
    assert isinstance(turned, Rows)
    assert turned.shape == (3, 2)
    assert torch.equal(turned.between(1, 3), state_of(3.0)["turned"][1:])


@pytest.mark.parametrize(
    "damage", ["missing", "truncated", "flipped", "of the step before", "renamed", "not listed", "a path"]
)
def test_a_damaged_file_of_a_rank_falls_back_to_the_checkpoint_before(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        save_shares(tmp_path, state_of(step), 2, step)
    latest = tmp_path / "step_00000002"
    state, text = latest / FILE, json.loads((latest / "manifest.json").read_text())
    match damage:
        case "missing":
            state.unlink()
        case "truncated":
            os.truncate(state, state.stat().st_size - 1)
        case "flipped":
            state.write_bytes(state.read_bytes()[:-1] + b"\xff")
        case "of the step before":
            shutil.copy(tmp_path / "step_00000001" / FILE, state)
        case "renamed":
            state.rename(latest / "state.1-of-3.safetensors")
        case "not listed":
            text["shards"] = []
        case "a path":
            text["shards"][1]["file"] = f"../step_00000001/{FILE}"
    (latest / "manifest.json").write_text(json.dumps(text))
    found = newest(tmp_path)
    assert found is not None
    assert found[1].step == 1
    assert equal(load(found[0]), state_of(1))
    assert (tmp_path / "damaged-step_00000002").is_dir()


def test_the_manifest_has_every_file_and_one_digest_of_all(tmp_path: Path) -> None:
    for folder, value in {"a": 1.0, "b": 1.0, "c": 2.0}.items():
        save_shares(tmp_path / folder, state_of(value), 2)
    one, same, other = (Manifest.read(tmp_path / folder / "step_00000001") for folder in "abc")
    assert one.format == 3
    assert [name for name, _, _ in one.files] == ["state.0-of-2.safetensors", FILE]
    assert one.bytes == sum((tmp_path / "a" / "step_00000001" / name).stat().st_size for name, _, _ in one.files)
    assert one.digest == same.digest != other.digest
