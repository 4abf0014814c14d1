"""``--cluster local``: supervisors on this machine, with real agents and a stand-in trainer."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.launch.local_runs import result_of, starts_of, wait_for_step

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_two_nodes_to_the_end(start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path) -> None:
    # As in a shell that `srun --pty` opened: that allocation's job is not the run's, and must not be requeued for it.
    allocation = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "n1"}
    process = start(make_config(steps=5), "--nodes", "2", **allocation)
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 0, output
    assert result_of(tmp_path)["status"] == "done"
    assert [begun["job"] for begun in starts_of(tmp_path)] == ["local"]
    assert "node 1 of 2" in output
    snapshots = list((tmp_path / "runs" / "tiny" / "slurm").glob("code-*"))
    assert [(path / "dist_train" / "training" / "loop.py").exists() for path in snapshots] == [True]


def test_interrupted_saved_and_continued(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    config = make_config(steps=400)
    process = start(config)
    wait_for_step(tmp_path, 3)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75, output
    stopped = result_of(tmp_path)
    assert stopped["status"] == "stopped"
    make_config(steps=stopped["step"] + 3)
    process = start(config)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert result_of(tmp_path)["step"] == stopped["step"] + 3
    assert starts_of(tmp_path)[-1]["stopped_at"] == stopped["step"]


def test_a_closed_terminal_loses_nothing(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    before = signal.signal(
        signal.SIGHUP, signal.SIG_DFL
    )  # nohup starts this test with it ignored, and a child inherits that
    process = start(make_config(steps=400))
    signal.signal(signal.SIGHUP, before)
    wait_for_step(tmp_path, 3)
    process.send_signal(signal.SIGHUP)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75, output
    assert result_of(tmp_path)["status"] == "stopped"
