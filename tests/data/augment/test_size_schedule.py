"""Images that grow over the epochs: which size is when, what is refused, and the same run after a resume."""

import shutil
from typing import Any

import pytest

from dist_train.config import dump_config, parse_config
from dist_train.config.yaml_text import parse_yaml
from dist_train.data.augment.size_schedule import of_epoch, training_sizes
from dist_train.errors import ConfigError
from dist_train.inference.config_check import check
from tests.support.ranks import run_ranks
from tests.support.runs import changed, rows, state_digest, train

GROWING = {0: 16, 1: [24, 32], 2: [32, 48]}


def test_a_size_holds_until_the_next(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, augment__size_schedule={0: 16, 3: [24, 32], 10: 64}, data__image_size=64))
    sizes = training_sizes(cfg.augment, (64, 64))
    assert sizes == {0: (16, 16), 3: (24, 32), 10: (64, 64)}
    assert [of_epoch(sizes, epoch)[1] for epoch in (0, 2, 3, 9, 10, 99)] == [16, 16, 32, 32, 64, 64]
    assert training_sizes(parse_config(tree).augment, (32, 48)) == {0: (32, 48)}
    assert parse_config(parse_yaml(dump_config(cfg), "")) == cfg


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"augment__size_schedule": {1: 16}}, r"`augment.size_schedule`: \[1\] must be rising epochs that begin with 0"),
        ({"augment__size_schedule": {0: 16, 9: 24, 3: 32}}, "must be rising epochs"),
        ({"augment__size_schedule": {}}, "must be rising epochs"),
        ({"augment__size_schedule": {0: 16, "x": 32}}, "must be rising epochs"),
        ({"augment__size_schedule": [16, 32]}, "must be epochs and sizes"),
        ({"augment__size_schedule": 16}, "must be epochs and sizes"),
        ({"augment__size_schedule": {0: -16}}, "-16 must be the side of a square"),
        ({"augment__size_schedule": {0: 16, 1: 24}}, "ends with 24 x 24 px, but `data.image_size` is 32 x 32 px"),
        ({"augment__size_schedule": {0: 16, 1: 32}, "augment__device": True}, "images that are resized on the CPU, and `augment.device`"),
    ],
)  # fmt: skip
def test_what_cannot_be(tree: dict[str, Any], keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_config(changed(tree, **keys))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model__name": "test_vit", "model__options": {"dynamic_img_size": False}}, r"`augment.size_schedule` \(16\): test_vit cannot process images of 16 x 16 px.*or remove the key"),
        ({"data__image_size": None}, "ends with 32 x 32 px, but images of the model .* have 160 x 160 px"),
        ({"augment__size_schedule": {0: 2, 1: 32}, "train__micro_batch": 1}, r"`train.micro_batch` \(1\): the BatchNorm"),
    ],
)  # fmt: skip
def test_every_size_is_tried_before_the_first_step(tree: dict[str, Any], keys: dict[str, Any], words: str) -> None:
    tree = changed(tree, model__name="test_resnet", augment__size_schedule={0: 16, 1: 32})
    with pytest.raises(ConfigError, match=words):
        check(parse_config(changed(tree, **keys)), 1)


def test_a_size_that_never_comes_is_noted(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    check(parse_config(changed(tree, model__name="test_resnet", augment__size_schedule={0: 16, 2: 32})), 1)
    assert "`augment.size_schedule`: the run ends at epoch 2, before the size of epoch 2" in " ".join(
        capsys.readouterr().out.split()
    )


def _sizes(tree: dict[str, Any]) -> list[tuple[int, ...]]:
    """The shapes of the images that a run trains on."""
    from dist_train.learning.objective import TrainingPass
    from tests.support.runs import _main

    seen: list[tuple[int, ...]] = []
    original = TrainingPass.forward

    def noted(self: Any, images: Any, targets: Any) -> Any:
        if images.count_nonzero():  # not of a trial
            seen.append(tuple(images.shape[1:]))
        return original(self, images, targets)

    TrainingPass.forward = noted  # type: ignore[method-assign]
    assert _main(tree) == 0
    return seen


def test_training_sees_the_sizes_in_turn(tree: dict[str, Any]) -> None:
    tree = changed(tree, model__name="test_resnet", train__epochs=3, data__workers=1, data__image_size=[32, 48])
    (seen,) = run_ranks(1, _sizes, changed(tree, augment__size_schedule=GROWING))
    assert seen == [(3, 16, 16)] * 5 + [(3, 24, 32)] * 5 + [(3, 32, 48)] * 5


RESUMED_IN = {"first": 2, "second": 5, "last": 8}
"""Steps, of 3 in each stage."""


@pytest.mark.parametrize(
    ("world_size", "stage", "compiled"),
    [
        (2, "second", False),
        *(pytest.param(size, stage, False, marks=pytest.mark.slow) for size in (1, 4) for stage in RESUMED_IN),
        pytest.param(1, "second", True, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_a_resume_in_any_stage_is_exact(tree: dict[str, Any], world_size: int, stage: str, compiled: bool) -> None:
    keys = {"crop": "random", "randaugment": {}, "erasing": 0.5, "mixup": 0.8, "size_schedule": GROWING}
    tree = changed(tree, model__name="test_resnet", augment=keys, data__image_size=[32, 48], data__workers=1)
    tree = changed(tree, train__epochs=3, train__global_batch=16, checkpoint={"every_steps": 1, "keep": 100})
    if compiled:  # the smallest model: torch's CPU backend is a C++ compiler
        tree = changed(tree, model={"name": "tests.model.test_backbones:Own", "pretrained": False, "compile": True})
        tree = changed(tree, distributed__timeout_s=900)
    straight = train(tree, world_size, run__name="straight")
    resumed = train(tree, world_size, run__name="resumed")
    for checkpoint in sorted((resumed / "checkpoints").iterdir()):
        if int(checkpoint.name[5:13]) > RESUMED_IN[stage]:
            shutil.rmtree(checkpoint)
    train(tree, world_size, run__name="resumed")
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)
