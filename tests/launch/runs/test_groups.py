"""Which runs may be ranked together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.run.folder import RunDir
from dist_train.run.predictions import Predictions, images_key, pack_arrays, pack_predictions
from launch.runs.groups import families, grouped, most_varied, settings_in_levels
from launch.runs.reader import Run, read_run
from tests.launch.run_folders import make_run


def a_run(folder: Path, name: str, top1: float = 50.0, paths: list[str] | None = None, **settings: Any) -> Run:
    run = make_run(folder, name, top1=top1)
    if paths is not None:
        numbers = np.zeros(len(paths), np.int32)
        run.predictions.write_bytes(pack_predictions(Predictions(2, numbers, numbers, paths)))
    found = read_run(run.path)
    found.settings |= {key.replace("__", "."): value for key, value in settings.items()}
    return found


def test_runs_on_other_images_are_a_group_of_their_own(tmp_path: Path) -> None:
    runs = [
        a_run(tmp_path, "low", 40.0, ["x", "y"]),
        a_run(tmp_path, "other", 90.0, ["x", "z"], data__fold="2/5"),
        a_run(tmp_path, "high", 60.0, ["x", "y"], data__train_fraction=0.5),
        a_run(tmp_path, "live", 50.0),
    ]
    groups = grouped(runs)
    assert [[run.name for run in group.runs] for group in groups] == [["high", "live", "low"], ["other"]]
    assert [group.about for group in groups] == ["top1 on data.fold=null", "top1 on data.fold=2/5"]


def test_the_same_settings_with_other_content_are_two_groups(tmp_path: Path) -> None:
    runs = [a_run(tmp_path, "a", 40.0, ["x"]), a_run(tmp_path, "b", 50.0, ["y"])]
    assert [group.about for group in grouped(runs)] == ["top1 on its own validation images"] * 2


def test_another_metric_is_another_group(tmp_path: Path) -> None:
    runs = [a_run(tmp_path, "a", 40.0), a_run(tmp_path, "b")]
    runs[1].metric = "macro_f1"
    assert [[run.name for run in group.runs] for group in grouped(runs)] == [["a"], ["b"]]


def test_an_order_of_the_user_holds_in_each_group(tmp_path: Path) -> None:
    runs = [a_run(tmp_path, name, 40.0 + place, data__fold=name < "c") for place, name in enumerate("adbc")]
    assert [[run.name for run in group.runs] for group in grouped(runs, "-name")] == [["d", "c"], ["b", "a"]]
    with pytest.raises(KeyError):
        grouped(runs, "nothing")


def test_one_folder_by_two_names_is_one_data_set(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    roots = [str(tmp_path / "images"), str(tmp_path / "link"), "a\0b"]
    runs = [a_run(tmp_path / "runs", f"r{place}", data__root=root) for place, root in enumerate(roots)]
    assert [len(group.runs) for group in grouped(runs)] == [2, 1]


def test_settings_in_two_levels(tmp_path: Path) -> None:
    runs = [
        a_run(tmp_path, f"r{place}", optim__lr=lr, run__seed=place, versions__torch=str(place), data__workers=place)
        for place, lr in enumerate((0.1, 0.1, 0.2, 0.3))
    ]
    assert settings_in_levels(runs) == (["run.seed", "optim.lr"], ["data.workers", "versions.torch"])
    assert most_varied(runs) == "optim.lr"
    assert families(runs) == [0, 0, 1, 2]
    assert most_varied(runs[:2]) is None


def test_the_key_of_images(tmp_path: Path) -> None:
    file = RunDir(tmp_path).predictions
    assert images_key(file) is None
    keys = []
    for targets, paths in (([[1.0]], ["x"]), ([[1.0]], ["x"]), ([[0.0]], ["x"]), ([[1.0]], ["y"])):
        outputs = np.random.default_rng(len(keys)).random((1, 1), np.float32)
        file.write_bytes(pack_arrays(len(keys), paths, outputs=outputs, targets=np.array(targets, np.float32)))
        keys.append(images_key(file))
    assert keys[0] == keys[1]
    assert len({*keys, None}) == 4
    file.write_bytes(b"PK no zip")
    assert images_key(file) is None
