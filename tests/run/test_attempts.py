"""Attempts as ``provenance.json`` records them, or as somebody else wrote them."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.run.attempts import attempts_of, trained_with
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
