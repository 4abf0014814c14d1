"""Attempts as ``provenance.json`` records them, or as somebody else wrote them."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.run.attempts import attempts_of, objects_from_code, trained_with
from dist_train.run.folder import RunDir
from dist_train.system.files import write_json


@pytest.mark.parametrize("content", [[], 5, None, {}, {"attempts": 3}, {"attempts": {}}, {"attempts": [1, [], "x"]}])
def test_what_no_run_wrote_is_no_attempt(tmp_path: Path, content: Any) -> None:
    write_json(RunDir(tmp_path).provenance, content)
    assert attempts_of(RunDir(tmp_path)) == []
    assert trained_with(RunDir(tmp_path)) == {}


def test_the_code_is_that_of_the_last_attempt(tmp_path: Path) -> None:
    entries = [{"named_code": {"a:b": "1"}}, {"named_code": {"a:b": "2"}}]
    write_json(RunDir(tmp_path).provenance, {"attempts": entries})
    assert attempts_of(RunDir(tmp_path)) == entries
    assert trained_with(RunDir(tmp_path)) == {"a:b": "2"}
    write_json(RunDir(tmp_path).provenance, {"attempts": [*entries, {"named_code": []}]})
    assert trained_with(RunDir(tmp_path)) == {}


@pytest.mark.parametrize("config", [None, [], {}, {"optim.lr": 0.1}])
def test_a_run_from_a_config_alone_has_no_objects(tmp_path: Path, config: Any) -> None:
    assert objects_from_code(RunDir(tmp_path)) == {}
    _write_manifest(tmp_path, 1, config)
    assert objects_from_code(RunDir(tmp_path)) == {}


def test_objects_are_those_of_the_newest_checkpoint(tmp_path: Path) -> None:
    _write_manifest(tmp_path, 1, {"given.model": "a:B"})
    _write_manifest(tmp_path, 2, {"optim.lr": 0.1, "given.model": "a:C", "given.data": "a:D, a:D"})
    assert objects_from_code(RunDir(tmp_path)) == {"model": "a:C", "data": "a:D, a:D"}


def _write_manifest(path: Path, step: int, config: Any) -> None:
    folder = RunDir(path).checkpoints / f"step_{step:08}"
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"config": config})
