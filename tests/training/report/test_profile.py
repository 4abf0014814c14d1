"""``log.profile``: traces that tell of the steps in the window, and change nothing."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from dist_train.training.report.profile import Profile
from tests.support.runs import changed, rows, state_digest, train

CPU = torch.device("cpu")


def record(folder: Path, window: tuple[int, int] | None, first: int, last: int) -> Profile:
    profile = Profile(window, folder, 0, CPU)
    for step in range(first, last + 1):
        profile.begin(step)
        torch.ones(4) @ torch.ones(4)
        profile.end(step)
    return profile


def dots(trace: Path) -> int:
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    return sum(event.get("name") == "aten::dot" for event in events)


@pytest.mark.parametrize(
    ("steps", "name", "recorded"),
    [
        ((1, 9), "rank0_steps3-5.json.gz", 3),
        ((5, 9), "rank0_steps5-5.json.gz", 1),  # a resume in the window
        ((1, 4), "rank0_steps3-4.json.gz", 2),  # a stop in the window
    ],
)
def test_a_trace_has_the_steps_of_the_window(tmp_path: Path, steps: tuple[int, int], name: str, recorded: int) -> None:
    record(tmp_path / "profile", (3, 5), *steps).close()
    assert [path.name for path in (tmp_path / "profile").iterdir()] == [name]
    assert dots(tmp_path / "profile" / name) == recorded


@pytest.mark.parametrize("window", [None, (3, 5)])
def test_without_steps_of_the_window_there_is_no_trace(tmp_path: Path, window: tuple[int, int] | None) -> None:
    profile = record(tmp_path / "profile", window, 6, 9)
    profile.begin(10)
    profile.close()
    assert not (tmp_path / "profile").exists()


def test_a_stop_in_the_first_step_of_the_window_leaves_no_trace(tmp_path: Path) -> None:
    profile = Profile((3, 5), tmp_path / "profile", 0, CPU)
    profile.begin(3)
    profile.close()
    assert not (tmp_path / "profile").exists()
    record(tmp_path / "profile", (3, 5), 1, 9)  # the profiler is free again
    assert (tmp_path / "profile").exists()


def test_trouble_gives_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        record(tmp_path / "profile", (1, 2), 1, 9)
    (tmp_path / "file").write_text("in the way")
    record(tmp_path / "file", (1, 2), 1, 9).close()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "the profiler cannot start" in caplog.text
    assert "no trace of rank 0" in caplog.text


@pytest.mark.parametrize("window", [[5, 4], [0, 3], [1, 101], [1], "1-3", [1, 2, 3]])
def test_a_wrong_window_is_refused(tree: dict[str, Any], window: Any) -> None:
    with pytest.raises(ConfigError, match=r"`?log\.profile"):
        parse_config(changed(tree, log__profile=window))


@pytest.mark.slow
def test_every_rank_writes_its_trace_and_computes_the_same(tree: dict[str, Any]) -> None:
    plain = train(tree, 2, run__name="plain")
    profiled = train(tree, 2, run__name="profiled", log__profile=[2, 3])
    names = sorted(path.name for path in (profiled / "profile").iterdir())
    assert names == ["rank0_steps2-3.json.gz", "rank1_steps2-3.json.gz"]
    assert state_digest(profiled) == state_digest(plain)
    assert rows(profiled) == rows(plain)
