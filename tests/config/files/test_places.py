"""An error names the file and the line that the wrong value stands in."""

from pathlib import Path

import pytest

from dist_train.config import load_config
from dist_train.errors import ConfigError

PARENT = """run: {name: a}
model: {name: resnet10t}
data:
  root: photos
optim:
  lr: 0.1
  momentun: 0.9
train:
  global_batch: 8
  epochs: 0
augment:
  crop_scale:
    - 0.5
    - 2.0
"""


def errors(folder: Path, text: str, overrides: list[str] | None = None) -> list[str]:
    (folder / "parent.yaml").write_text(PARENT)
    (folder / "child.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(folder / "child.yaml", overrides)
    return [line.replace(f"{folder}/", "") for line in str(error.value).splitlines()]


def test_each_error_has_the_place_of_its_value(tmp_path: Path) -> None:
    found = errors(tmp_path, "base: parent.yaml\n\ntrain:\n  global_batch: -1\n")
    ends = {line.split("`")[1]: line.rpartition(" (")[2] for line in found}
    assert ends == {
        "train.global_batch": "child.yaml, line 4)",
        "train.epochs": "parent.yaml, line 10)",
        "optim.momentun": "parent.yaml, line 7)",
        "augment.crop_scale.1": "parent.yaml, line 14)",
    }


def test_a_value_of_the_command_line_has_no_place(tmp_path: Path) -> None:
    text = "base: parent.yaml\noptim: {lr: null, momentun: null}\naugment: null\n"
    found = errors(tmp_path, text, ["train.epochs=-1"])
    assert set(found) == {
        "`optim.lr` is missing: set it in the file, or give optim.lr=... on the command line (child.yaml, line 2)",
        "`train.epochs` (-1) must be greater than 0; the default is 10",
    }


def test_keys_that_do_not_fit_together_have_the_place_of_the_first(tmp_path: Path) -> None:
    text = (
        "base: parent.yaml\noptim: {momentun: null}\naugment: null\ntrain: {epochs: 2}\nschedule:\n  warmup_epochs: 3\n"
    )
    (line,) = errors(tmp_path, text)
    assert line.startswith("`schedule.warmup_epochs` (3) is more than `train.epochs` (2)")
    assert line.endswith(" (child.yaml, line 6)")
