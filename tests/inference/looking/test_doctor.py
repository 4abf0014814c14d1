"""``look --doctor``."""

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.inference.looking.command import main
from tests.support.commands import call
from tests.support.runs import train


def test_it_writes_a_table_that_exclude_takes(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(image_folder, tmp_path / "set")
    original = sorted((tmp_path / "set" / "val").rglob("*.png"))[0]
    shutil.copy(original, tmp_path / "set" / "train" / "class_a" / "leak.png")
    tree["data"]["root"] = str(tmp_path / "set")
    file, table = tmp_path / "run.yaml", tmp_path / "runs" / "test-findings.csv"
    file.write_text(yaml.safe_dump(tree))
    code, out, err = call(main, "--config", file, "--doctor")
    assert (code, err) == (0, "")
    assert "exact duplicate: 1, 1 of them across the splits, such as train/class_a/leak.png" in " ".join(out.split())
    with open(table, newline="") as lines:
        exact = [row for row in csv.DictReader(lines) if row["finding"] == "exact duplicate"]
    assert [(row["image"], row["exclude"]) for row in exact] == [("train/class_a/leak.png", "yes")]
    assert out.endswith("(see its column `exclude`)\n")


def test_the_table_is_a_csv(tree: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(tree))
    code, _, err = call(main, "--config", file, "--doctor", "--out", tmp_path / "look.png")
    assert (code, "must end in .csv with --doctor" in err) == (2, True)


def test_a_run_judges_its_validation_images(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(image_folder, tmp_path / "set")
    tree["data"]["root"] = str(tmp_path / "set")
    run = train(tree, train__epochs=6, optim__lr=0.02)
    for victim in sorted((tmp_path / "set" / "val" / "class_a").iterdir()):
        victim.rename(tmp_path / "set" / "val" / "class_b" / f"moved-{victim.name}")
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(tree))
    code, out, err = call(main, "--config", file, "--doctor", "--run", run, "--out", tmp_path / "t.csv")
    assert (code, err) == (0, "")
    assert re.search(
        r"other class: \d+, such as val/class_b/moved-\d+\.\w+ \(predicted class_a", " ".join(out.split())
    ), out


def test_runs_are_for_the_doctor(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--config", "a.yaml", "--run", str(path)])
    assert "--run needs --doctor" in capsys.readouterr().err
