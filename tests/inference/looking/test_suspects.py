"""Images that trained models take for another class."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dist_train.config import parse_config
from dist_train.data.doctor.findings import Finding
from dist_train.data.index import evaluation_index, scan
from dist_train.errors import ConfigError
from dist_train.inference.looking.suspects import suspects
from tests.support.ranks import run_ranks
from tests.support.runs import changed, train


def found(tree: dict[str, Any], runs: list[Path]) -> list[Finding]:
    return suspects(scan(parse_config(tree).data), runs, trust=False)


def judged(tree: dict[str, Any], runs: list[Path]) -> list[Finding]:
    """In a process of its own, since a scoring sets torch's algorithms."""
    (rows,) = run_ranks(1, found, tree, runs)
    return rows  # type: ignore[no-any-return]


def test_swapped_labels_come_first(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(image_folder, tmp_path / "set")
    run = train(changed(tree, data__root=str(tmp_path / "set"), train__epochs=6, optim__lr=0.02))
    sound = judged(changed(tree, data__root=str(tmp_path / "set")), [run])
    victims = sorted((tmp_path / "set" / "val" / "class_a").iterdir())[:2]
    for victim in victims:
        victim.rename(tmp_path / "set" / "val" / "class_b" / f"moved-{victim.name}")
    rows = judged(changed(tree, data__root=str(tmp_path / "set")), [run])
    moved = {f"val/class_b/moved-{victim.name}" for victim in victims}
    assert {row.image for row in rows} >= moved - {row.image for row in sound}
    assert rows, "the model must have learnt something"
    assert {(row.exclude, row.finding, row.split) for row in rows} == {("no", "other class", "val")}
    margins = [_margin(row.detail) for row in rows]
    assert margins == sorted(margins, reverse=True)


def _margin(detail: str) -> float:
    predicted, _, labelled = detail.partition(", labelled ")
    return round(float(predicted.split()[-1]) - float(labelled.split()[-1]), 1)


def test_other_tasks_and_other_classes_are_refused(tree: dict[str, Any], path: Path, tmp_path: Path) -> None:
    index = scan(parse_config(tree).data)
    with pytest.raises(ConfigError, match="other classes than the run"):
        suspects(evaluation_index(parse_config(tree).data, "val", ["class_a", "class_b"]), [path], trust=False)
    object.__setattr__(index, "task", "regression")
    with pytest.raises(ConfigError, match=r"`data\.task` is regression; leave --run out"):
        suspects(index, [path], trust=False)


def make_textures(root: Path) -> dict[str, str]:
    """400 images of 4 classes, told apart by the direction of their waves; 5 % lie in a wrong folder.

    Returns:
        The true class of each moved image, by its name.
    """
    rng, moved = np.random.default_rng(0), {}
    flipped = set(rng.choice(400, 20, replace=False).tolist())
    for number in range(400):
        true, side = number % 4, np.arange(32)
        phase = side[:, None] * np.sin(true * np.pi / 4) + side[None] * np.cos(true * np.pi / 4)
        waves = 60 * np.sin(phase * rng.uniform(0.8, 1.2) + rng.uniform(0, 6)) + rng.normal(128, 25, (32, 32))
        label = (true + int(rng.integers(1, 4))) % 4 if number in flipped else true
        path = root / "train" / f"class{label}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(waves, 0, 255).astype(np.uint8)).convert("RGB").save(path)
        if label != true:
            moved[f"train/{path.parent.name}/{path.name}"] = f"class{true}"
    return moved


@pytest.mark.slow
def test_of_flipped_labels_half_are_in_the_first_tenth(tree: dict[str, Any], tmp_path: Path) -> None:
    moved = make_textures(tmp_path / "set")
    tree["augment"] = {"crop": "squash", "hflip": 0}
    shape = {"root": str(tmp_path / "set"), "image_size": 32, "workers": 0}
    folds = [
        train(
            {**tree, "data": {**shape, "fold": f"{fold}/2"}},
            run__name=f"fold{fold}",
            train__epochs=25,
            optim={"name": "adamw", "lr": 0.002},
        )
        for fold in (1, 2)
    ]
    rows = judged({**tree, "data": {**shape, "fold": "1/2"}}, folds)
    first = {row.image for row in rows[:40]}
    assert len(first & moved.keys()) >= len(moved) / 2, len(first & moved.keys())
