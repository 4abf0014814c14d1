"""A run decides once how bright its images are, and training, evaluation, prediction and every resume agree on it."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dist_train.config import parse_config
from dist_train.data.decode_rules import decide_rules, describe_rules, record_rules, rules_of
from dist_train.data.decoding.rules import DecodeRules
from dist_train.data.index import DataIndex, scan
from dist_train.errors import ConfigError, DataError
from dist_train.evaluate import main as evaluate
from dist_train.predict import main as predict
from dist_train.run.folder import RunDir
from dist_train.run.predictions import load_predictions
from tests.support.commands import call
from tests.support.deep_images import make_deep_folder
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, state_digest, train


@pytest.fixture
def deep(tree: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The config of a run on 16-bit files of 12 bits."""
    root = make_deep_folder(tmp_path / "deep")
    return changed(tree, data__root=str(root), train__global_batch=6, train__max_steps=6, schedule__name="constant")


def decided(tree: dict[str, Any], resumed: bool = False) -> DecodeRules:
    cfg = parse_config(tree)
    return decide_rules(cfg.data, scan(cfg.data), RunDir.of(cfg.run), resumed)


def brightness(index: DataIndex) -> float:
    return float(np.mean([index.images.open(index.train.name(n)).pixels().mean() for n in range(len(index.train))]))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_bits_of_a_set_follow_from_a_sample(tree: dict[str, Any], tmp_path: Path, bits: int) -> None:
    root = make_deep_folder(tmp_path / "deep", bits)
    tree = changed(tree, data__root=str(root))
    rules = decided(tree)
    assert rules == DecodeRules((0, 2**bits - 1))
    index = scan(parse_config(tree).data).with_rules(rules)
    assert 95 < brightness(index) < 125, "with all bits, the images are equally bright"


def test_a_dark_image_stays_dark(tree: dict[str, Any], tmp_path: Path) -> None:
    root = make_deep_folder(tmp_path / "deep")
    dark = root / "train" / "class_a" / "dark.png"
    Image.fromarray(np.full((8, 8), 160, dtype=np.uint16)).save(dark)
    tree = changed(tree, data__root=str(root))
    index = scan(parse_config(tree).data).with_rules(decided(tree))
    assert (index.images.open(str(dark)).pixels() == 10).all()


def test_of_usual_images_nothing_is_decided(tree: dict[str, Any]) -> None:
    assert decided(tree) == DecodeRules()
    assert "no more than 8 bits" in describe_rules(decided(tree))


def test_the_config_decides_first(deep: dict[str, Any]) -> None:
    given = changed(deep, data__value_range=[0, 1023], data__max_pixels=None)
    assert decided(given) == DecodeRules((0, 1023), max_pixels=None)
    assert "[0, 1023] (10 bits) becomes 0 to 255" in describe_rules(decided(given))


def test_a_resume_takes_what_was_recorded(deep: dict[str, Any]) -> None:
    run = RunDir.of(parse_config(deep).run)
    run.path.mkdir(parents=True)
    record_rules(run, DecodeRules((0, 16383)))
    assert decided(deep, resumed=True) == DecodeRules((0, 16383))
    assert decided(changed(deep, data__value_range=[0, 16383]), resumed=True) == DecodeRules((0, 16383))
    with pytest.raises(
        ConfigError, match=r"`data.value_range` \(\[0, 4095\] \(12 bits\)\) was \[0, 16383\] .* new run"
    ) as caught:
        decided(changed(deep, data__value_range=[0, 4095]), resumed=True)
    assert caught.value.of_this_start
    record_rules(run, DecodeRules())
    assert decided(deep, resumed=True) == DecodeRules()


def test_a_run_of_version_0_1_0_goes_on_as_it_began(deep: dict[str, Any]) -> None:
    cfg = parse_config(deep)
    assert decided(deep, resumed=True) == DecodeRules(as_0_1_0=True) == rules_of(cfg.data, RunDir.of(cfg.run))
    index = scan(cfg.data).with_rules(decided(deep, resumed=True))
    assert brightness(index) < 8
    with pytest.raises(ConfigError, match="was null when the run began"):
        decided(changed(deep, data__value_range=[0, 4095]), resumed=True)


def test_evaluation_may_take_another_range(deep: dict[str, Any]) -> None:
    cfg = parse_config(changed(deep, data__value_range=[0, 1023]))
    run = RunDir.of(cfg.run)
    run.path.mkdir(parents=True)
    record_rules(run, DecodeRules((0, 4095)))
    assert rules_of(cfg.data, run) == DecodeRules((0, 1023))
    assert rules_of(parse_config(deep).data, run) == DecodeRules((0, 4095))
    run.decode_rules.unlink()
    run.decode_rules.mkdir()
    with pytest.raises(ConfigError, match=r"decode_rules.json is a folder"):  # else images are decoded as by 0.1.0
        rules_of(parse_config(deep).data, run)


def test_evaluation_and_prediction_see_what_training_saw(deep: dict[str, Any], tmp_path: Path) -> None:
    run = train(deep)
    assert json.loads((run / "decode_rules.json").read_text()) == {"value_range": [0, 4095]}
    result = json.loads((run / "result.json").read_text())
    code, _, _ = call(evaluate, run, "--json", tmp_path / "scores.json")
    assert code == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["top1"] == result["best"]["top1"]
    root = Path(deep["data"]["root"])
    code, out, _ = call(predict, run, root / "val")
    assert code == 0
    kept = load_predictions(run / "predictions.npz")
    assert kept is not None
    found = {line["path"]: line["prediction"] for line in csv.DictReader(out.splitlines())}
    names = ["class_a", "class_b", "class_c"]
    assert found == {str(root / path): names[number] for path, number in zip(kept.paths, kept.pred_N, strict=True)}


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_resume_is_exact(deep: dict[str, Any], world_size: int) -> None:
    whole = state_digest(train(deep, world_size, run__name="whole"))
    train(deep, world_size, run__name="parts", train__max_steps=3)
    assert state_digest(train(deep, world_size, run__name="parts")) == whole
    run = train(deep, world_size, run__name="other", train__max_steps=3)
    record_rules(RunDir(run), DecodeRules((0, 65535)))
    assert state_digest(train(deep, world_size, run__name="other")) != whole, "the recorded range counts"


def test_another_range_is_refused_on_all_ranks(deep: dict[str, Any]) -> None:
    train(deep, train__max_steps=3)
    wrong = changed(deep, data__value_range=[0, 1023])
    assert run_ranks(2, _start, wrong) == [2, 2]
    assert json.loads((folder(deep) / "decode_rules.json").read_text()) == {"value_range": [0, 4095]}


def _start(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


class Arrays:
    """A data set object whose images are arrays."""

    dtype, shape = np.dtype(np.uint16), (8, 8)
    classes = ["a", "b"]

    def __init__(self, root: str, split: str) -> None:
        self.targets = [0, 1] * 4

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        values = np.random.default_rng(number).integers(0, 256, self.shape) * 16
        return values.astype(self.dtype), self.targets[number]


class Colours(Arrays):
    shape = (8, 8, 3)


class Floats(Colours):
    def __getitem__(self, number: int) -> tuple[Any, int]:
        values, target = super().__getitem__(number)
        return values.astype(np.float32) / 4080, target


class FourChannels(Arrays):
    dtype, shape = np.dtype(np.uint8), (8, 8, 4)


@pytest.mark.parametrize(("kind", "bounds"), [("Arrays", (0, 4095)), ("Colours", (0, 4095)), ("Floats", (0, 1))])
def test_arrays_of_a_data_set_object(deep: dict[str, Any], kind: str, bounds: tuple[float, float]) -> None:
    tree = changed(deep, data__format=f"{__name__}:{kind}")
    rules = decided(tree)
    assert rules == DecodeRules(bounds)
    index = scan(parse_config(tree).data).with_rules(rules)
    pixels = index.images.open("train/3").pixels()
    values = np.random.default_rng(3).integers(0, 256, (8, 8) if kind == "Arrays" else (8, 8, 3))
    assert np.abs(pixels.astype(int) - (values[..., None] if kind == "Arrays" else values)).max() <= 1


def test_arrays_of_four_channels_are_refused_when_a_run_begins(deep: dict[str, Any]) -> None:
    """Version 0.1.0 took them for RGBA, and its runs go on so."""
    tree = changed(deep, data__format=f"{__name__}:FourChannels")
    with pytest.raises(
        DataError, match=r"image train/0 of .*FourChannels is a ndarray uint8 \[8, 8, 4\]; .* its last channel"
    ):
        decided(tree)
    index = scan(parse_config(tree).data)
    with pytest.raises(DataError, match="mode RGBA"):
        index.images.open("val/1")
    old = index.with_rules(decided(tree, resumed=True))
    assert old.images.open("val/1").pixels().shape == (8, 8, 3)


def test_the_sample_is_spread_over_the_set(tree: dict[str, Any], tmp_path: Path) -> None:
    """One image in 20 of another kind is found, at the end of the names too."""
    root = tmp_path / "mixed"
    make_deep_folder(root)
    for path in root.rglob("*.tif"):
        shutil.move(path, path.with_name("zz" + path.name))
    for number in range(100):
        Image.new("RGB", (4, 4)).save(root / "train" / "class_a" / f"0{number:03d}.png")
    for path in (root / "train").rglob("*.png"):
        if not path.stem.startswith("0") or len(path.stem) == 3:
            Image.new("RGB", (4, 4)).save(path)
    rules = decided(changed(tree, data__root=str(root)))
    assert rules == replace(rules, value_range=(0, 4095))
