"""The examples of docs/extending.md that need no row in a table: transform, logger, SLURM option.

The others are run where their tables are tested; the page names the files.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.config import parse_config
from tests.support.examples import DOCS, code_below
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, rows

ROOT = Path(__file__).parent.parent


def train_in(place: str, tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    sys.path.insert(0, place)
    return main(parse_config(tree))


def with_example(heading: str, tree: dict[str, Any], place: Path, **options: Any) -> dict[str, Any]:
    """Write the example's class into the file that it names, and return a config with the example's keys."""
    (code,), (keys,) = code_below("extending.md", heading), code_below("extending.md", heading, "yaml")
    path = place / code.splitlines()[0].removeprefix("# ")
    path.parent.mkdir()
    path.write_text(code)
    ((section, values),) = yaml.safe_load(keys).items()
    (entry,) = next(iter(values.values()))
    entry["options"] |= options
    return changed(tree, **{f"{section}__{key}": value for key, value in values.items()})


def test_a_class_of_ones_own_adds_a_transform(tree: dict[str, Any], tmp_path: Path) -> None:
    tree = changed(tree, train__epochs=1, log__every_steps=1)
    always = with_example("A transform", tree, tmp_path, p=1.0)
    never = changed(tree, run__name="without")
    for run in (always, never):
        assert run_ranks(1, train_in, str(tmp_path), run) == [0]
    grey, coloured = ([row["loss"] for row in rows(folder(run), "train")] for run in (always, never))
    assert grey != coloured


def test_a_class_of_ones_own_adds_a_logger(tree: dict[str, Any], tmp_path: Path) -> None:
    best = tmp_path / "best.txt"
    tree = with_example("A logger", tree, tmp_path, path=str(best))
    assert run_ranks(1, train_in, str(tmp_path), tree) == [0]
    validation = rows(folder(tree), "val")
    first = max(validation, key=lambda row: (row["top1"], -row["step"]))
    assert best.read_text() == f"{first['top1']} at step {first['step']}"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of the code with the example's field in its place, after the last field of its kind."""
    for package in ("dist_train", "launch"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (example,) = code_below("extending.md", "A SLURM option")
    place, field = example.rstrip().split("\n", 1)
    path = tmp_path / place.removeprefix("# ").removesuffix(", in JobOptions")
    before, last, after = re.split(r"(    exclude: .* = _sbatch\(.*\n)", path.read_text())
    path.write_text(f"{before}{last}    {field}\n{after}")
    return tmp_path


def test_a_field_adds_a_slurm_option(code: Path, tree: dict[str, Any]) -> None:
    (code / "run.yaml").write_text(yaml.safe_dump(tree))
    (code / "site.yaml").write_text("hint: nomultithread")
    command = [sys.executable, "launch/slurm.py", "--config=run.yaml", "--dry-run", "--no-check"]
    for given in ("--hint=nomultithread", "--cluster-config=site.yaml"):
        done = subprocess.run([*command, given], cwd=code, capture_output=True, text=True, check=False)
        assert "#SBATCH --hint=nomultithread" in done.stdout, done.stderr


def test_every_example_of_the_page_is_run() -> None:
    headings = set(re.findall(r"^## (.*)$", (DOCS / "extending.md").read_text(), re.MULTILINE))
    tests = "".join(
        (ROOT / path).read_text()
        for path in re.findall(r"`(tests/[\w/]+\.py)`", (DOCS / "extending.md").read_text().split("## ")[0])
    )
    assert [
        heading
        for heading in sorted(headings - {"A config key", "Several targets of different kinds: a design, not built"})
        if f'"{heading}"' not in tests
    ] == []
