"""Findings on planted faults, and their way into ``data.exclude``."""

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dist_train.config import parse_config
from dist_train.data.doctor.findings import Finding, brief, describe, examine, write
from dist_train.data.index import DataIndex, scan
from tests.support.textures import texture

CLASSES = ("a", "b", "c")


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    """150 training and 60 validation images; then copies, a broken and two blank images, and a class of three."""
    rng, root = np.random.default_rng(0), tmp_path / "set"
    for split, count in (("train", 50), ("val", 20)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(texture(rng)).save(root / split / name / f"{number:03d}.png")
    for number in range(10):
        shutil.copy(root / "train" / "a" / f"{number:03d}.png", root / "train" / "a" / f"copy{number}.png")
        shutil.copy(root / "val" / "b" / f"{number:03d}.png", root / "train" / "c" / f"leak{number}.png")
        with Image.open(root / "train" / "c" / f"{number:03d}.png") as image:
            image.resize((50, 50)).save(root / "train" / "c" / f"near{number}.jpg", quality=70)
        with Image.open(root / "val" / "c" / f"{number:03d}.png") as image:
            image.crop((2, 1, 63, 62)).save(root / "train" / "c" / f"cut{number}.jpg", quality=85)
    for number in range(2):
        Image.new("RGB", (64, 64), (number, 9, 9)).save(root / "train" / "b" / f"blank{number}.png")
    (root / "train" / "b" / "broken.png").write_bytes((root / "train" / "b" / "000.png").read_bytes()[:3000])
    for number in range(3):
        (root / "train" / "few").mkdir(exist_ok=True)
        Image.fromarray(texture(rng)).save(root / "train" / "few" / f"{number}.png")
    return root


def index_of(tree: dict[str, Any], root: Path, **data: Any) -> DataIndex:
    return scan(parse_config({**tree, "data": {"root": str(root), **data}}).data)


def test_planted_faults_are_found(tree: dict[str, Any], sick: Path, tmp_path: Path) -> None:
    rows, notes = examine(index_of(tree, sick))
    named = {kind: {row.image for row in rows if row.finding == kind} for kind in {row.finding for row in rows}}
    assert named["broken"] == {"train/b/broken.png"}
    assert named["blank"] == {"train/b/blank0.png", "train/b/blank1.png"}
    copies = {f"train/a/copy{number}.png" for number in range(10)}
    leaks = {f"train/c/leak{number}.png" for number in range(10)}
    assert named["exact duplicate"] == copies | leaks
    near = {f"train/c/{kind}{number}.jpg" for kind in ("near", "cut") for number in range(10)}
    assert len(named["near duplicate"] & near) >= 18
    assert len(named["near duplicate"] - near) <= 2  # of 213
    assert [row.detail for row in rows if row.finding == "few images"] == ["few: 3"]
    leak = next(row for row in rows if row.image == "train/c/leak3.png")
    assert (leak.other, leak.detail) == ("val/b/003.png", "across the splits; targets: c, b")
    assert notes == []
    lines = list(describe(rows))
    assert "exact duplicate: 20, 10 of them across the splits, such as train/a/copy0.png = train/a/000.png" in lines

    table = tmp_path / "findings.csv"
    with open(table, "w", newline="") as file:
        write(file, rows)
    cured, _ = examine(index_of(tree, sick, exclude=str(table)))
    assert [row.finding for row in cured] == ["few images"]


def test_a_file_that_both_tables_list_is_not_left_out(tree: dict[str, Any], sick: Path) -> None:
    for split in ("train", "val"):
        lines = [f"train/{name}/{number:03d}.png,{name}" for name in CLASSES for number in range(12, 24)]
        (sick / f"{split}.csv").write_text("\n".join(["path,label", *lines[: 36 if split == "train" else 14]]))
    rows, _ = examine(index_of(tree, sick, format="csv"))
    assert {(row.exclude, row.detail) for row in rows} == {("no", "across the splits; one file, listed twice")}
    assert len(rows) == 14


def test_the_table_is_safe_for_a_spreadsheet_and_keeps_names() -> None:
    text = io.StringIO()
    write(text, [Finding("=a,b.png", "yes", "broken", "val", detail="=1+1")])
    (row,) = csv.DictReader(io.StringIO(text.getvalue()))
    assert (row["image"], row["detail"]) == ("=a,b.png", "'=1+1")


def test_nothing_is_said_to_be_nothing() -> None:
    assert list(describe([])) == ["no findings"]


def test_a_brief_examination_names_faults_of_a_sample(tree: dict[str, Any], sick: Path, image_folder: Path) -> None:
    _, lines = brief(index_of(tree, sick))
    assert lines, "half of the images are looked at"
    assert all(line.startswith("note: the doctor, of 160 of 256 images: ") for line in lines)
    assert brief(index_of(tree, image_folder)) == ([], [])


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks(tree: dict[str, Any], sick: Path, task: str) -> None:
    for split in ("train", "val"):
        rows = [f"{path.relative_to(sick)},1,{n % 2}" for n, path in enumerate(sorted((sick / split / "c").iterdir()))]
        (sick / f"{split}.csv").write_text("\n".join(["path,one,two", *rows]))
    tree["loss"], tree["eval"]["metric"] = {"name": "bce" if task == "multilabel" else "mse"}, "loss"
    index = index_of(tree, sick, format="csv", task=task, csv={"targets": ["one", "two"]})
    _, (line,) = brief(index)
    assert line.startswith("note: the doctor, of 100 images: near duplicate: "), line
    rows, _ = examine(index)
    assert {row.finding for row in rows} == {"near duplicate"}
    assert {row.detail.removeprefix("across the splits").removeprefix("; ") for row in rows} <= {"", "targets: differ"}
