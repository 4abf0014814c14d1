"""Classes and images on which two runs differ."""

from pathlib import Path

import numpy as np

from dist_train.run.folder import RunDir
from dist_train.run.predictions import Predictions, load_predictions, pack_predictions
from launch.runs.predictions import difference_interval, pairs_of
from launch.runs.reader import read_run
from tests.launch.run_folders import make_run, page_data, run_script


def save(run: RunDir, pred: list[int], label: list[int], paths: list[str]) -> None:
    run.predictions.write_bytes(pack_predictions(Predictions(2, np.array(pred), np.array(label), paths)))
    run.classes.write_text('["cat", "dog"]')


def test_which_classes_and_images(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a", top1=90.0), make_run(tmp_path, "b")
    names = [f"val/{index}.png" for index in range(4)]
    save(a, [0, 0, 1, 1], [0, 0, 1, 1], names)
    save(b, [0, 1, 1, 1], [0, 0, 1, 1], names)
    page = tmp_path / "page.html"
    assert run_script(a.path, b.path, "--html", page).returncode == 0
    (pair,) = page_data(page)["pairs"]
    assert [pair[key] for key in ("a", "b", "images", "same", "both_right", "only_a", "only_b", "both_wrong")] == [
        "a",
        "b",
        4,
        3,
        3,
        1,
        0,
        0,
    ]
    assert pair["difference"] == -25
    assert pair["interval"] == [-75, 0]
    assert pair["classes"] == [["cat", 2, 1.0, 0.5, -0.5]]
    assert pair["shown"] == [["val/1.png", "cat", "cat", "dog"]]


def test_without_names_a_class_is_its_number(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a"), make_run(tmp_path, "b")
    save(a, [0, 1], [0, 1], [])
    save(b, [0, 5], [0, 1], [])  # a class that the first run never says
    a.classes.unlink()
    (pair,) = pairs_of([read_run(a.path), read_run(b.path)])
    assert pair.shown == [["#1", "class 1", "class 1", "class 5"]]


def test_other_images_are_not_compared(tmp_path: Path) -> None:
    a, b, c = (make_run(tmp_path, name) for name in "abc")
    save(a, [0, 1], [0, 1], ["x", "y"])
    save(b, [0, 1], [0, 1], ["x", "z"])
    c.predictions.write_bytes(b"no zip")
    assert load_predictions(c.predictions) is None
    assert pairs_of([read_run(run.path) for run in (a, b, c)]) == []


def test_the_interval_is_that_of_the_paired_bootstrap() -> None:
    random = np.random.default_rng(1)
    right_a, right_b = random.random((2, 400)) < np.array([[0.7], [0.75]])
    scores = right_b.astype(int) - right_a
    means = [100 * scores[random.integers(0, 400, 400)].mean() for _ in range(4000)]
    found = difference_interval(400, int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()))
    assert np.allclose(found, np.percentile(means, [2.5, 97.5]), atol=0.5)
    assert difference_interval(400, 0, 0) == (0, 0)


def test_runs_without_images_are_not_compared(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a"), make_run(tmp_path, "b")
    for run in (a, b):
        save(run, [], [], [])
    assert pairs_of([read_run(run.path) for run in (a, b)]) == []
