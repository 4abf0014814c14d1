"""Real torchrun: a rank dies, or torchrun dies; commands on trained runs share the work."""

import os
import signal
import subprocess
import sys
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


PROGRAM = """
import os
import sys

import dist_train as dt

for name, root in (("first", []), ("bad", ["data.root=/nowhere"]), ("second", [])):
    try:
        result = dt.train(dt.load_config(sys.argv[1], [f"run.name={name}", *root]))
        said = f"{name} {result.status} {result.step}"
    except dt.DataError:
        said = f"{name} refused"
    sys.stdout.write(f"rank {os.environ['RANK']}: {said}\\n")  # in one write: the ranks share a pipe
    sys.stdout.flush()
"""


@pytest.mark.slow
def test_a_program_trains_several_times(tree: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(changed(tree, train__max_steps=3)))
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, tmp_path / "program.py", tmp_path / "run.yaml"],
        capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = {line for line in done.stdout.splitlines() if line.startswith("rank ")}
    ends = ("first done 3", "bad refused", "second done 3")
    assert told >= {f"rank {rank}: {end}" for rank in range(2) for end in ends}
    assert state_digest(folder(tree).with_name("first")) == state_digest(folder(tree).with_name("second"))


@pytest.mark.slow
def test_evaluate_of_two_ranks_says_what_one_process_says(tree: dict[str, Any], tmp_path: Path) -> None:
    run = train(tree, train__epochs=1)
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    found = {}
    for name, starter in (("one", []), ("two", ranks)):
        document = tmp_path / f"{name}.json"
        done = subprocess.run(
            [sys.executable, *starter, "-m", "dist_train", "evaluate", run, "--json", document],
            capture_output=True, text=True, timeout=200, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[name] = (document.read_bytes(), [line for line in done.stdout.splitlines() if "loss " in line])
    assert found["one"] == found["two"], "the same digits, printed once"
    assert len(found["two"][1]) == 1
