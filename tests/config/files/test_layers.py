"""A file builds on another: what it says counts, and a run never depends on the other file again."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.config import dump_config, load_config
from dist_train.config.sections.train import EmaConfig
from dist_train.errors import ConfigError

PARENT = """
run: {name: parent}
model: {name: resnet10t, pretrained: false}
data: {root: photos, csv: {targets: [a, b]}}
augment: {crop: random_resized, crop_scale: [0.5, 1.0], mixup: 0.8, randaugment: {num_ops: 3, magnitude: 5}}
loss: {class_weights: {cat: 2.0, dog: 3.0}}
optim: {lr: 0.1}
train: {global_batch: 8, ema: 0.9, early_stopping: {patience: 3}}
"""


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    (tmp_path / "parent.yaml").write_text(PARENT)
    return tmp_path


def child(folder: Path, text: str, overrides: list[str] | None = None) -> Any:
    (folder / "child.yaml").write_text(f"base: parent.yaml\n{text}")
    return load_config(folder / "child.yaml", overrides)


def test_values_of_the_file_count_and_those_of_the_command_line_last(parent: Path) -> None:
    cfg = child(parent, "run: {name: child}\noptim: {lr: 0.2, momentum: 0.5}\n", ["optim.momentum=0.7"])
    assert (cfg.run.name, cfg.optim.lr, cfg.optim.momentum, cfg.train.ema) == ("child", 0.2, 0.7, EmaConfig(decay=0.9))


def test_mappings_are_merged_and_lists_replaced(parent: Path) -> None:
    text = "augment: {crop_scale: [0.2, 0.9], randaugment: {magnitude: 9}}\ndata: {csv: {targets: [c]}}\nloss: {class_weights: {dog: 1.5}}\n"
    cfg = child(parent, text)
    assert cfg.augment.crop_scale == (0.2, 0.9)
    assert (cfg.augment.ops[0].options["num_ops"], cfg.augment.ops[0].options["magnitude"]) == (3, 9)
    assert cfg.data.csv.targets == ("c",)
    assert cfg.loss.class_weights == {"cat": 2.0, "dog": 1.5}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train: {ema: null}", "train.ema", None),
        ("train: {early_stopping: null}", "train.early_stopping", None),
        ("augment: {mixup: null}", "augment.mixup", 0.0),
        ("augment: null", "augment.crop", "center"),
        ("augment: {crop_scale: null}", "augment.crop_scale", (0.08, 1.0)),
        ("loss: {class_weights: null}", "loss.class_weights", {}),
        ("loss: {class_weights: {cat: null}}", "loss.class_weights", {"dog": 3.0}),
        ("data: {max_pixels: null}", "data.max_pixels", None),
        ("data: {csv: {val: null}}", "data.csv.val", None),
    ],
)
def test_null_removes_a_value(parent: Path, text: str, key: str, value: Any) -> None:
    cfg = child(parent, text)
    for name in key.split("."):
        cfg = getattr(cfg, name)
    assert cfg == value


def test_null_removes_only_what_a_base_has(parent: Path) -> None:
    with pytest.raises(ConfigError, match=r"`augment\.erasing` \(None\) must be a valid number"):
        child(parent, "augment: {erasing: null}")
    with pytest.raises(ConfigError, match=r"`optim\.lr` is missing"):
        child(parent, "optim: {lr: null}")


def test_bases_may_have_a_base_in_other_folders(parent: Path, tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a" / "middle.yaml").write_text("base: ../parent.yaml\noptim: {lr: 0.5}\ntrain: {epochs: 7}\n")
    (inner / "last.yaml").write_text("{base: ../middle.yaml, train: {epochs: 8}}")
    cfg = load_config(inner / "last.yaml")
    assert (cfg.run.name, cfg.optim.lr, cfg.train.epochs) == ("parent", 0.5, 8)


def test_the_base_is_flattened(parent: Path) -> None:
    cfg = child(parent, "")
    (parent / "config.yaml").write_text(dump_config(cfg))
    (parent / "parent.yaml").unlink()
    assert "base" not in yaml.safe_load((parent / "config.yaml").read_text())
    assert load_config(parent / "config.yaml", of_a_run=True) == cfg
    with pytest.raises(ConfigError, match="`base` is not a key"):
        (parent / "run.yaml").write_text("base: recipes/vit\n")
        load_config(parent / "run.yaml", of_a_run=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: nowhere.yaml", r"cannot read the file that `base` \(nowhere.yaml\) of .*c.yaml names: No such file"),
        ("base: .", r"cannot read the file that `base` \(\.\) of .*c.yaml names: Is a directory"),
        ("base: c.yaml", r"`base` \(c.yaml\) of .*c.yaml leads back to .*c.yaml; remove one"),
        ("base: d.yaml", r"`base` \(c.yaml\) of .*d.yaml leads back to"),
        ("base: empty.yaml", "empty.yaml is empty: it must hold sections"),
        ("base: [a.yaml, b.yaml]", r"`base` \(\['a.yaml', 'b.yaml'\]\) of .* must be recipes/NAME or the path of one"),
        ("base: 3", r"`base` \(3\) of"),
        ("base: recipes/vti", r"`base` of .*c.yaml: vti: no recipe has this name; did you mean vit\?"),
    ],
)
def test_a_base_that_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    (tmp_path / "d.yaml").write_text("base: c.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing")
    with pytest.raises(ConfigError, match=words):
        load_config(tmp_path / "c.yaml")


def test_base_null_is_no_base_and_the_command_line_has_none(parent: Path) -> None:
    (parent / "alone.yaml").write_text(f"base: null\n{PARENT}")
    assert load_config(parent / "alone.yaml") == load_config(parent / "parent.yaml")
    with pytest.raises(ConfigError, match=r"`base` \(recipes/vit\) can be given in a YAML file only; write it into"):
        load_config(parent / "parent.yaml", ["base=recipes/vit"])
