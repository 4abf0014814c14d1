"""Which run began from which."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.run.folder import RunDir
from dist_train.system.files import read_json, write_json
from launch.runs.reader import Run, read_run
from launch.runs.tree import tree
from tests.launch.run_folders import make_run


def a_run(folder: Path, name: str, **origin: Any) -> Run:
    run = make_run(folder, name)
    write_json(run.provenance, read_json(run.provenance, default={}) | origin)
    return read_run(run.path)


def parent(path: Path, weights: str = "best", step: int = 4) -> dict[str, Any]:
    return {"run": str(path.resolve()), "weights": weights, "step": step, "sha256": "0"}


def test_branches_and_averages(tmp_path: Path) -> None:
    member = {"file": str(tmp_path / "b" / "best.safetensors"), "kept": True}
    step = {"file": str(tmp_path / "a" / "checkpoints" / "step_00000004" / "state.safetensors"), "kept": True}
    runs = [
        a_run(tmp_path, "c", parent=parent(tmp_path / "b", "last")),
        a_run(tmp_path, "b", parent=parent(tmp_path / "a")),
        a_run(tmp_path, "a"),
        a_run(tmp_path, "alone"),
        a_run(tmp_path, "soup", average={"members": [member, step, {"file": "x", "kept": False}]}),
        a_run(tmp_path, "d", parent=parent(tmp_path / "soup")),
        a_run(tmp_path, "e", parent=parent(tmp_path / "elsewhere")),
    ]
    assert tree(runs) == [
        (0, "a"),
        (1, "b: from the best weights (step 4)"),
        (2, "c: from the last weights (step 4)"),
        (0, "soup: average of b, a step_00000004"),
        (1, "d: from the best weights (step 4)"),
        (0, str(tmp_path / "elsewhere")),
        (1, "e: from the best weights (step 4)"),
    ]


def test_without_relations_there_is_no_tree(tmp_path: Path) -> None:
    assert tree([a_run(tmp_path, "a"), a_run(tmp_path, "b")]) == []


@pytest.mark.parametrize(
    "origin",
    [
        {"parent": 3},
        {"parent": {"run": ["x"]}},
        {"average": []},
        {"average": {"members": 3}},
        {"average": {"members": ["x", {"file": 3, "kept": True}]}},
    ],
)
def test_other_content_is_no_relation(tmp_path: Path, origin: dict[str, Any]) -> None:
    assert tree([a_run(tmp_path, "a", **origin)]) == []


def test_a_run_that_is_its_own_ancestor_ends_the_tree(tmp_path: Path) -> None:
    runs = [
        a_run(tmp_path, "a", parent=parent(tmp_path / "b")),
        a_run(tmp_path, "b", parent=parent(tmp_path / "a")),
        a_run(tmp_path, "c", parent=parent(tmp_path / "c")),
    ]
    assert tree(runs) == []
    assert RunDir(tmp_path / "a").provenance.is_file()
