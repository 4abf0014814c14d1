"""A file staged for a checkpoint is published with that checkpoint and with no other."""

from pathlib import Path

import pytest

from dist_train.checkpoint.staged_files import publish, stage


@pytest.mark.parametrize("checkpoint", ["step_00000003", "step_00000003-evaluated", None])
def test_files_are_published_for_the_checkpoint_they_were_staged_for(tmp_path: Path, checkpoint: str | None) -> None:
    best, said = tmp_path / "best.safetensors", tmp_path / "predictions.npz"
    best.write_bytes(b"before")
    stage(best, "step_00000003-evaluated", [b"new ", memoryview(b"weights")])
    stage(said, "step_00000003", [b"said"])
    assert best.read_bytes() == b"before"
    publish(tmp_path, checkpoint)
    expected = {best: b"new weights" if checkpoint == "step_00000003-evaluated" else b"before"}
    if checkpoint == "step_00000003":
        expected[said] = b"said"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == expected
