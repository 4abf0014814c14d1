"""How often an epoch sees each image."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.config import parse_config
from dist_train.config.plan import Plan
from dist_train.config.sections.data import SamplingConfig
from dist_train.data.index import scan
from dist_train.data.sampler import StreamSampler
from dist_train.data.selection.sampling import Sampling, sampling_of
from dist_train.data.split import Split
from dist_train.data.stored.reuse import read_index
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError, DataError
from dist_train.inference.score import index_of
from tests.support.runs import changed, resumes_exactly
from tests.support.tables import tabled

LABELS = np.repeat([0, 1, 2], [90, 9, 1])


def made(cfg: SamplingConfig, labels: Any = LABELS, **columns: Any) -> Sampling:
    split = Split(np.array([b"a"] * len(labels)), np.asarray(labels), columns=columns)
    found = sampling_of(cfg, split)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "expected"), [("balanced", [100 / 3] * 3), ("sqrt", 100 * np.sqrt([90, 9, 1]) / np.sqrt([90, 9, 1]).sum())]
)
def test_an_epoch_has_the_classes_in_exact_proportion(name: Any, expected: Any) -> None:
    sampling = made(SamplingConfig(name=name))
    for epoch in range(20):
        images, _ = sampling.order(0, epoch)
        assert len(images) == 100
        assert (np.abs(np.bincount(LABELS[images], minlength=3) - expected) < 1).all()


def test_each_image_of_a_class_is_seen_equally_often_over_epochs() -> None:
    sampling = made(SamplingConfig(name="balanced"))
    seen = sum(np.bincount(sampling.order(1, epoch)[0], minlength=100) for epoch in range(400))
    mean = sampling.times_N * 400
    assert (np.abs(seen - mean) < 5 * np.sqrt(mean)).all()
    assert np.abs(seen[:90] / 400 - 100 / 3 / 90).max() < 0.15


def test_weights_of_a_column_decide_and_none_is_none() -> None:
    weights = np.array([0.0, 1.0, 3.0, 0.0])
    sampling = made(SamplingConfig(name="column", column="w"), [0, 0, 1, 1], sampling=weights)
    for epoch in range(50):
        assert Counter(sampling.order(0, epoch)[0].tolist()) == {1: 1, 2: 3}
    assert sampling.describe() == "an epoch sees an image 1 to 3 times on average; 2 images with weight 0 never"
    with pytest.raises(DataError, match=r"`data.sampling` \(w\): all training images have the weight 0"):
        made(SamplingConfig(name="column", column="w"), [0, 0], sampling=np.zeros(2))


def test_what_is_drawn_twice_is_numbered_and_the_order_is_mixed() -> None:
    images, before = made(SamplingConfig(name="balanced")).order(3, 5)
    seen: Counter[int] = Counter()
    for image, time in zip(images.tolist(), before.tolist(), strict=True):
        assert time == seen[image]
        seen[image] += 1
    assert len(set(LABELS[images[:20]].tolist())) == 3
    again, other = (made(SamplingConfig(name="balanced")).order(3, epoch)[0] for epoch in (5, 6))
    assert (images == again).all()
    assert (images != other).any()


@pytest.mark.parametrize("position", [0, 3, 4, 7])
def test_the_stream_is_the_same_at_any_world_size_and_from_any_step(position: int) -> None:
    sampling = made(SamplingConfig(name="sqrt"))
    plans = [
        Plan(world, 100, 24, 24 // world // parts, parts, 4, 10, 0, 4, 4, 1)
        for world, parts in ((1, 1), (2, 3), (4, 2))
    ]
    steps = []
    for plan in plans:
        ranks = [list(StreamSampler(range(100), plan, rank, 7, position, sampling)) for rank in range(plan.world_size)]
        share = plan.micro_batch * plan.accumulate
        assert all(len(keys) == (10 - position) * share for keys in ranks)
        steps.append(
            [Counter(key for keys in ranks for key in keys[at : at + share]) for at in range(0, len(ranks[0]), share)]
        )
    assert steps[0] == steps[1] == steps[2]
    assert len(set(map(str, steps[0]))) == 10 - position
    whole = [list(StreamSampler(range(100), plans[1], rank, 7, 0, sampling)) for rank in range(2)]
    share = plans[1].micro_batch * plans[1].accumulate
    assert [list(StreamSampler(range(100), plans[1], rank, 7, position, sampling)) for rank in range(2)] == [
        keys[position * share :] for keys in whole
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data__sampling": "even"}, "`data.sampling.name` ('even') must be one of balanced, sqrt, column"),
        ({"data__sampling": {"name": "balanced", "column": "w"}}, "give balanced, sqrt, or {column: NAME}"),
        ({"data__sampling": "column"}, "give balanced, sqrt, or {column: NAME}"),
        (
            {"data__sampling": "sqrt", "augment__repeats": 3},
            "`data.sampling` (sqrt) and `augment.repeats` (3) both say how often an epoch sees an image",
        ),
        ({"data__sampling": {"column": "w"}}, "`data.sampling.column` (w) needs `data.format` csv"),
        (
            {
                "data__sampling": "balanced",
                "data__task": "regression",
                "data__format": "csv",
                "eval__metric": "mae",
                "loss__name": "mse",
            },
            "`data.sampling` (balanced) needs one class for each image, but `data.task` is regression",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(tree: dict[str, Any], change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **change))
    assert words in str(error.value)


def test_a_resume_in_the_middle_of_an_epoch_is_exact_on_two_ranks(tree: dict[str, Any]) -> None:
    tree = changed(tree, data__sampling="balanced", augment__randaugment={}, checkpoint={"every_steps": 1, "keep": 100})
    index = scan(parse_config(tree).data)
    assert any(note.startswith("`data.sampling`: an epoch sees an image ") for note in index.notes)
    resumes_exactly(tree, 2, kept=3, data__workers=1)


def test_a_table_gives_the_weights(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    root = tabled(image_folder, tmp_path / "table", "regression")
    lines = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text(
        "\n".join([f"{lines[0]},w", *(f"{line},{n % 3}" for n, line in enumerate(lines[1:]))])
    )
    data = {
        "format": "csv",
        "root": str(root),
        "task": "regression",
        "csv": {"targets": ["red"]},
        "sampling": {"column": "w"},
    }
    tree = changed(tree, loss__name="mse", eval__metric="mae") | {"data": data}
    index = scan(parse_config(tree).data)
    assert set(index.train.columns["sampling"].tolist()) == {0.0, 1.0, 2.0}
    other = scan(parse_config(changed(tree, data__sampling=None)).data)
    assert other.fingerprint != index.fingerprint
    (root / "train.csv").write_text("\n".join([f"{lines[0]},w", *(f"{line},-1" for line in lines[1:])]))
    with pytest.raises(DataError, match="line 2 has '-1' in the column w, which must be a number of at least 0"):
        scan(parse_config(tree).data)
    with pytest.raises(DataError, match=r"has no column v; .* or the key that names this column"):
        scan(parse_config(changed(tree, data__sampling={"column": "v"})).data)


def test_data_given_for_an_evaluation_needs_no_columns_and_data_given_for_training_cannot_have_them(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    given = [(np.zeros((8, 8, 3), np.uint8), number % 2) for number in range(6)]
    data = type("Given", (list,), {"targets": [label for _, label in given], "classes": ["a", "b"]})(given)
    keys = {"data__format": "csv", "data__root": str(tmp_path), "data__sampling": {"column": "w"}}
    cfg = parse_config(changed(tree, **keys, data__csv={"weight": "v"}))
    assert len(index_of(cfg, ["a", "b"], data).val) == 6
    with pytest.raises(ConfigError, match=r"names columns of a table \(v, w\), and the data given has no table"):
        read_index(cfg.data, Dist.alone(), (data, data))
