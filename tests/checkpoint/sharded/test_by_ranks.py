"""Real ranks save their shares through real writers, while their tensors change; a rank alone may fail."""

import os
import signal
from pathlib import Path

import pytest
import torch

from dist_train.checkpoint.background_writer import BackgroundWriter
from dist_train.checkpoint.sharded.by_ranks import on_writers, save_shares
from dist_train.checkpoint.sharded.piece import Piece
from dist_train.checkpoint.store import Checkpoints, SaveError
from dist_train.checkpoint.stored import load, newest
from dist_train.config.sections.checkpoint import Memory
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import joined
from tests.support.ranks import run_ranks
from tests.support.shares import divided, equal
from tests.support.states import manifest_of, state_of


def _saves(path: Path, memory: Memory) -> tuple[str, str]:
    """Save steps 1 and 2 and step 2 once more; then rank 1's writer dies, and step 3 cannot be saved."""
    with joined(DistributedConfig()) as group:
        checkpoints = Checkpoints(path / "checkpoints", 2, memory=memory)
        on_writers(group, True, checkpoints.start)
        on_writers(group, True, checkpoints.wait)
        for step in (1, 2, 2):
            whole = state_of(step)
            state = divided(whole, group.rank, group.world_size)
            files = {path / "best": "model", path / "said": b"said"} if group.is_main else None
            save_shares(checkpoints, group, state, manifest_of(step), files, 60.0, bool)
            whole["model"]["a"].fill_(99)
        checkpoints.wait()
        group.gather_objects(None)
        if memory == "low":
            return "", ""
        if group.rank == 1:
            assert isinstance(checkpoints._writer, BackgroundWriter)
            os.kill(checkpoints._writer.process.pid, signal.SIGKILL)
            checkpoints._writer.process.wait()
        said = []
        for limit_s in (1.0, 1.0):  # the first may reach the pipe of a dead writer; the next one finds out
            try:
                save_shares(
                    checkpoints, group, divided(state_of(3), group.rank, 2), manifest_of(3), None, limit_s, bool
                )
                checkpoints.wait()
            except SaveError as error:
                said.append(str(error))
        checkpoints.abandon()
        return said[0], said[-1]


@pytest.mark.parametrize("memory", ["low", pytest.param("full", marks=pytest.mark.slow)])
def test_every_rank_saves_its_share_and_a_dead_writer_is_told(tmp_path: Path, memory: Memory) -> None:
    errors = run_ranks(2, _saves, tmp_path, memory)
    found = newest(tmp_path / "checkpoints")
    assert found is not None
    assert [name for name, _, _ in found[1].files] == ["state.0-of-2.safetensors", "state.1-of-2.safetensors"]
    assert found[1].step == 2
    assert equal(load(found[0]), state_of(2)), "as it was when `save_shares` was called"
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step_00000001", "step_00000002"]
    assert sorted(os.listdir(tmp_path)) == ["best", "checkpoints", "said"]
    if memory == "full":
        assert "the process that writes checkpoints died (exit code -9)" in errors[1][0]
        assert any("died (exit code -9)" in text or "nothing came from rank 1" in text for text in errors[0])


def test_a_state_with_pieces_is_not_saved_as_a_whole_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2, memory="low")
    with pytest.raises(AssertionError):
        checkpoints.save({"a": Piece(torch.ones(2), 0, (4,))}, manifest_of(1))
