"""The messages at the start, at the end and at a stop."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dist_train.config import parse_config
from dist_train.config.planning import make_plan
from dist_train.data.label_sets import LabelSets
from dist_train.data.split import Split
from dist_train.run.folder import RunDir
from dist_train.run.result import Result
from dist_train.training.report.messages import (
    WIDTH,
    beginning,
    data_lines,
    device_line,
    done,
    run_line,
    stopped,
)

RUN = RunDir(Path("/data/my runs/flowers"))


def index(labels: Any, classes: list[str], task: str = "classification") -> Any:
    targets = LabelSets.of(labels, len(classes)) if task == "multilabel" else np.array(labels)
    split = Split(np.array([b"x"] * len(labels)), targets)
    return SimpleNamespace(train=split, val=split, classes=classes, outputs=len(classes), task=task)


def test_few_classes_are_named_with_their_smallest_and_largest() -> None:
    assert data_lines(index([0, 0, 1, 2, 2, 2], ["cat", "dog", "owl"])) == [
        "data: 6 training and 6 validation images",
        "3 classes: cat, dog, owl",
        "training images per class: 1 (dog) to 3 (owl)",
    ]


def test_many_classes_are_counted() -> None:
    names = [f"class {number}" for number in range(1200)]
    lines = data_lines(index(list(range(1200)), names))
    assert lines[1:] == [
        "1,200 classes: class 0, class 1, class 2, class 3, class 4, ...",
        "1 training images per class",
    ]


def test_labels_and_targets() -> None:
    assert data_lines(index([[0], [0, 1]], ["sun", "rain"], "multilabel"))[1:] == [
        "2 labels: sun, rain",
        "training images per label: 1 (rain) to 2 (sun)",
    ]
    assert data_lines(index([[1.5, -3.0], [2.5, 7.25]], ["width", "height"], "regression"))[1:] == [
        "2 targets: width, height",
        "width from 1.5 to 2.5; height from -3 to 7.25",
    ]


def test_names_from_the_file_system_do_no_harm() -> None:
    names = ["a\x1b[31m\n" + b"\xff".decode(errors="surrogateescape"), "b"]
    assert data_lines(index([0, 1], names, "classification"))[1] == r"2 classes: a\x1b[31m\x0a\xff, b"


@pytest.mark.parametrize(
    ("hosts", "per_rank", "text"),
    [
        (["a"], 1, "device: 1 x CPU"),
        (["a", "a"], 1, "device: 2 x CPU"),
        (["a", "a", "b", "b"], 1, "device: 4 x CPU on 2 hosts"),
        (["a"], 8, "device: 8 x CPU"),
    ],
)
def test_devices(hosts: list[str], per_rank: int, text: str) -> None:
    assert device_line("CPU", hosts, per_rank) == text


@pytest.mark.parametrize(
    ("step", "reached", "text"),
    [
        (0, 0, "run: runs/a, a new run"),
        (0, 7, "run: runs/a has no checkpoint yet and starts again at step 0; 7 steps are repeated"),
        (5, 5, "run: runs/a, continues at step 5 of 10"),
        (5, 8, "run: runs/a, continues at step 5 of 10; 3 steps are repeated"),
    ],
)
def test_where_a_run_continues(tree: dict[str, Any], step: int, reached: int, text: str) -> None:
    assert run_line(Path("runs/a"), make_plan(parse_config(tree), 60, 1), step, reached) == text


def test_every_line_fits(tree: dict[str, Any]) -> None:
    plan = make_plan(parse_config(tree), 60, 1)
    names = [f"a class with a long name {number}" for number in range(9)]
    model = "model: vit_base_patch16_384.augreg_in21k_ft_in1k at 384 px, 86,098,954 of 86,098,954 parameters train"
    text = beginning(run_line(RUN.path, plan, 5, 8), device_line("CPU", ["a"]), model, index(range(9), names), plan)
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_end_names_the_best_the_weights_and_what_comes_next() -> None:
    best = {"step": 300, "loss": 0.5, "top1": 87.4567}
    text = done(RUN, Result("done", step=400, total_steps=400, best=best, weights="ema"), "top1")
    assert text.splitlines() == [
        "done: 400 of 400 steps; best top1 87.46 at step 300",
        "weights (moving average): /data/my runs/flowers/best.safetensors (best), last.safetensors",
        "  (last step)",
        "next: python -m dist_train.evaluate '/data/my runs/flowers'",
        "      python -m dist_train.predict '/data/my runs/flowers' IMAGES",
        "      python -m dist_train.export '/data/my runs/flowers'",
    ]
    why = "early stopping: `top1` did not improve on 87.46 in 2 evaluation(s)"
    text = " ".join(done(RUN, Result("done", step=35, total_steps=400, best=best, message=why), "top1").split())
    assert text.startswith(f"done early, at step 35 of 400: {why}; best top1 87.46 at step 300 weights")


def test_a_stop_says_what_is_saved_and_how_to_go_on() -> None:
    text = stopped(RunDir(Path("runs/a")), Result("stopped", step=7, total_steps=10), "SIGTERM")
    assert text.splitlines() == [
        "stopped at step 7 of 10 (SIGTERM); this step is saved in runs/a",
        "start the same command again to continue",
    ]
