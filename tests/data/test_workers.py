"""The number of loader processes: as given, or what fits the cores."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.data.workers import MOST_WORKERS, loader_processes
from dist_train.system.machine.cores import usable_cores
from tests.support.runs import changed


def test_processes_follow_the_cores_where_none_are_given(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (0, 3):
        assert loader_processes(parse_config(changed(tree, data__workers=given)).data) == given
    derived = parse_config(changed(tree, data__workers=None)).data
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert loader_processes(derived) == min(MOST_WORKERS, usable_cores())
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert loader_processes(derived) == 1
