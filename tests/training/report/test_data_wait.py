"""The time spent waiting for data is measured, and reported once with advice."""

import json
import time
from typing import Any

import pytest
from PIL import Image

from dist_train.config import parse_config
from dist_train.training.report.data_wait import DataWait, advice
from tests.support.runs import changed, train


class SlowImages:
    """A data set whose images take 10 ms each."""

    targets = [0, 1] * 12

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        time.sleep(0.01)
        return Image.new("RGB", (32, 32)), self.targets[index]


def slow_images(root: str, split: str) -> SlowImages:
    return SlowImages()


def test_a_slow_data_set_is_told_once_with_what_to_change(
    tree: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    tree = changed(
        tree, data__format="tests.training.report.test_data_wait:slow_images", train__epochs=5, eval__every_epochs=100
    )
    run = train(changed(tree, train__global_batch=8), 2)
    result = json.loads((run / "result.json").read_text())
    assert result["data_wait"] > 0.05
    told = [line for line in "".join(capfd.readouterr()).splitlines() if "training waits for data" in line]
    assert len(told) == 1
    assert result["advice"] in told[0]
    assert "(data.workers=0): set data.workers=" in told[0]


def cfg(tree: dict[str, Any], **overrides: Any) -> Any:
    return parse_config(changed(tree, **overrides))


def test_nothing_is_said_of_the_first_row_nor_of_little_waiting(tree: dict[str, Any]) -> None:
    wait = DataWait()
    assert not wait.add(9.0, 10.0, 50, cfg(tree)), "the loader processes start in the first row"
    assert wait.share is None
    assert not wait.add(0.4, 10.0, 50, cfg(tree))
    assert wait.share == pytest.approx(0.04)
    assert wait.add(1.6, 10.0, 50, cfg(tree))
    assert wait.share == pytest.approx(0.1)
    assert not wait.add(10.0, 10.0, 50, cfg(tree)), "once a run"
    assert wait.advice is not None
    assert wait.advice.startswith("training waits for data 10% of the time")


def test_the_advice_fits_the_run(tree: dict[str, Any]) -> None:
    assert "set data.workers=8" in advice(cfg(tree, data__workers=2), 0.3, cores=8)
    full = advice(cfg(tree, data__workers=8, augment={"randaugment": {"interpolation": "bilinear"}}), 0.3, cores=8)
    assert "set data.workers" not in full
    assert "more than 8 CPU cores" in full
    assert "interpolation=nearest" in full
    assert "data.prefetch (now 4)" in full
