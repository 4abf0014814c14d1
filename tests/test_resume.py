"""The promise: N steps straight = k steps + resume, bit for bit, at any k and world size."""

import shutil
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


@pytest.mark.parametrize(
    ("world_size", "killed_after", "precision", "workers"),
    [
        (1, 1, "fp32", (0, 2)),  # the number of loader processes may change on the way
        (2, 3, "amp_bf16", (2, 0)),
        (4, 5, "fp32", (0, 0)),
        (2, 2, "amp_fp16", (0, 0)),  # its loss scale is part of the state
    ],
)
def test_a_resumed_run_equals_an_undisturbed_one(
    tree: dict[str, Any], world_size: int, killed_after: int, precision: str, workers: tuple[int, int]
) -> None:
    tree = changed(tree, **HARD, train__precision=precision, train__nonfinite="skip", log__every_steps=2)
    straight = train(tree, world_size, run__name="straight", data__workers=workers[0])
    resumed = train(tree, world_size, run__name="resumed", data__workers=workers[0])
    for checkpoint in sorted((resumed / "checkpoints").iterdir()):
        if int(checkpoint.name[5:13]) > killed_after:
            shutil.rmtree(checkpoint)
    train(tree, world_size, run__name="resumed", data__workers=workers[1])
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)
