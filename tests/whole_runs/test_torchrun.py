"""Real torchrun: a rank dies, or torchrun dies."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.drill.faults import CommandStart, Traces, wait_for_end, wait_until
from dist_train.run.folder import RunDir
from tests.support.runs import changed, folder, rows, state_digest, train


@pytest.fixture
def long(tree: dict[str, Any]) -> dict[str, Any]:
    return changed(tree, train__epochs=8, checkpoint__every_steps=3, log__every_steps=1, train__ema=0.9)


@pytest.mark.slow
def test_a_killed_rank_is_restarted_in_the_job(long: dict[str, Any], tmp_path: Path) -> None:
    """The command that the README gives, without any variable set."""
    straight = train(long, 2, run__name="straight")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(long))
    started = CommandStart(["--config", str(tmp_path / "run.yaml")], 2, tmp_path / "log", ["--max-restarts=1"])
    traces = Traces(RunDir(folder(long)))
    assert wait_until(lambda: traces.reached() >= 5 and len(traces.saved()) > 0, started, 100)
    os.kill(started.ranks()[1], signal.SIGKILL)
    wait_for_end(started, 200)
    output = (tmp_path / "log").read_text()
    assert started.process.returncode == 0, output
    assert output.count("resuming from") >= 1
    assert "connectFullMesh" not in output, "the first restart found the ranks, not the addresses of the dead"
    assert state_digest(folder(long)) == state_digest(straight)
    assert rows(folder(long)) == rows(straight)


@pytest.mark.slow
def test_ranks_do_not_outlive_a_killed_torchrun(long: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(changed(long, train__epochs=500)))
    started = CommandStart(["--config", str(tmp_path / "run.yaml")], 2, tmp_path / "log")
    traces = Traces(RunDir(folder(long)))
    assert wait_until(lambda: traces.reached() >= 5, started, 100)
    assert len(started.ranks()) == 2
    os.kill(started.process.pid, signal.SIGKILL)
    assert wait_for_end(started, 60) < 60
    assert traces.status() == "stopped"
    assert traces.reached() == traces.saved()[-1], "not a step was lost"
