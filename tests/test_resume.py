"""The promise: N steps straight = k steps + resume, bit for bit, at any k and world size."""

from typing import Any

import pytest

from tests.runs import changed, rows, state_digest, train

HARD = {
    "model__drop_path": 0.2,
    "model__head": {"dropout": 0.2},
    "augment": {"crop": "random_resized", "randaugment": {}, "erasing": 0.5, "mixup": 0.8, "cutmix": 1.0},
    "loss": {"label_smoothing": 0.1},
    "train__ema": 0.9,
    "train__clip_grad": 1.0,
    "train__global_batch": 16,
    "train__micro_batch": 2,
    "optim__name": "adamw",
    "optim__lr": 1e-3,
    "checkpoint__every_steps": 1,
    "checkpoint__keep": 100,
}


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_resumed_run_equals_an_undisturbed_one(tree: dict[str, Any], world_size: int) -> None:
    tree = changed(tree, **HARD)
    straight = train(tree, world_size, run__name="straight")
    resumed = train(tree, world_size, run__name="resumed")
    for name in sorted((resumed / "checkpoints").iterdir())[3:]:  # as if killed after step 3
        for file in name.iterdir():
            file.unlink()
        name.rmdir()
    train(tree, world_size, run__name="resumed")
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)
