"""The promise: N steps = k steps + resume, bit for bit, at any k and world size."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.data.formats.images import FileImages
from dist_train.inference.load_run import load_run
from tests.support.images import make_array_folder
from tests.support.ranks import run_ranks
from tests.support.runs import _main, changed, move_checkpoint, resumes_exactly, rows, train

HARD = {
    "model__drop_path": 0.2,
    "model__head": {"dropout": 0.2},
    "augment": {"crop": "random_resized", "randaugment": {}, "erasing": 0.5, "mixup": 0.8, "cutmix": 1.0},
    "loss": {"label_smoothing": 0.1},
    "train__ema": 0.9,
    "train__clip_grad": 1.0,
    "model__options": {"depth": 2},
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
        pytest.param(2, 3, "amp_bf16", (2, 0), marks=pytest.mark.slow),
        (4, 5, "fp32", (0, 0)),
        (2, 2, "amp_fp16", (0, 0)),  # its loss scale is part of the state
    ],
)
def test_a_resumed_run_equals_an_undisturbed_one(
    tree: dict[str, Any], world_size: int, killed_after: int, precision: str, workers: tuple[int, int]
) -> None:
    before, after = workers
    tree = changed(tree, **HARD, train__precision=precision, train__nonfinite="skip", data__workers=before)
    resumes_exactly(tree, world_size, kept=killed_after, data__workers=after)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_so_does_a_channels_last_one(tree: dict[str, Any], optimizer: str) -> None:
    """Fused optimizers go by the order of memory, which a checkpoint does not keep."""
    tree = changed(tree, model__name="test_efficientnet", model__channels_last=True, optim__name=optimizer)
    resumes_exactly(tree, 1, kept=-1)


def test_so_does_one_whose_rows_and_loader_processes_follow_from_data_and_machine(tree: dict[str, Any]) -> None:
    tree = changed(tree, train__global_batch=2, train__max_steps=10, checkpoint={"every_steps": 1, "keep": 100})
    del tree["log"]["every_steps"], tree["data"]["workers"]
    run = resumes_exactly(tree, 1, kept=4)
    assert [row["step"] for row in rows(run, "train")] == [3, 6, 9, 10], "a tenth of an epoch of 30 steps"


def _reads(tree: dict[str, Any]) -> int:
    """How many images a start opens until its end."""
    count = 0
    original = FileImages.open

    def counted(self: FileImages, name: str) -> Any:
        nonlocal count
        count += 1
        return original(self, name)

    FileImages.open = counted  # type: ignore[method-assign]
    assert _main(tree) == 0
    return count


def test_nothing_is_read_again_however_far_the_run_is(tree: dict[str, Any]) -> None:
    """Three more steps of 12 images and an evaluation of 23, at step 10 as at step 1,000,000."""
    tree = changed(tree, schedule__name="constant", train__epochs=10**6)
    run = train(tree, train__max_steps=5)
    for step in (10, 10**6):
        move_checkpoint(run, step)
        assert run_ranks(1, _reads, changed(tree, train__max_steps=step + 3)) == [3 * 12 + 23]
        assert [row["step"] for row in rows(run, "val")][-1] == step + 3


@pytest.mark.parametrize(
    "world_size", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_so_does_one_with_weights_of_classes_options_and_more_metrics(tree: dict[str, Any], world_size: int) -> None:
    loss = {"name": "bce", "options": {"target_threshold": 0.2, "sum_classes": True}}
    keys = {"augment__mixup": 0.8, "train__global_batch": 16, "model__options": {"qkv_bias": False, "depth": 2}}
    tree = changed(
        tree,
        **keys,
        loss=loss | {"label_smoothing": 0.1, "class_balance": {"name": "effective_number", "power": 0.5}},
        optim={"name": "lamb", "lr": 1e-3, "options": {"trust_clip": True}},
        eval={"metrics": ["auroc", "kappa", "top2"], "metric": "balanced_accuracy"},
        checkpoint={"every_steps": 1, "keep": 100},
    )
    run = resumes_exactly(tree, world_size, kept=2)
    assert {"auroc", "kappa", "top2", "balanced_accuracy"} <= rows(run, "val")[-1].keys()


@pytest.mark.parametrize(
    "world_size", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_so_does_one_of_four_channels_and_16_bits(tree: dict[str, Any], tmp_path: Path, world_size: int) -> None:
    """And the run is evaluated and predicts as in training."""
    data = {"root": str(make_array_folder(tmp_path / "arrays", 4)), "channels": 4, "bits": 16, "workers": 1}
    data |= {"image_size": [32, 48], "mean": [0.4] * 4, "std": [0.3] * 4}
    augment = {"crop": "random_resized", "erasing": 0.5, "cutmix": 1.0}
    tree = changed(tree, model__name="test_efficientnet", data=data, augment=augment, train__global_batch=8)
    tree = changed(tree, checkpoint={"every_steps": 1, "keep": 100}, eval__size=[40, 48])
    run = load_run(resumes_exactly(tree, world_size, kept=4), device="cpu")
    assert run.evaluate()["loss"] == run.result.best["loss"]
    files = sorted((tmp_path / "arrays" / "val").rglob("*.npy"))
    assert [found.image for found in run.predict(tmp_path / "arrays" / "val")] == files
    assert run.transform(files[0]).shape == (4, 40, 48)
