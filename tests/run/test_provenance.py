"""What a start records about itself."""

import json
from pathlib import Path
from typing import Any

import pytest

import dist_train
from dist_train.config import load_config, parse_config
from dist_train.run.folder import RunDir
from dist_train.run.provenance import begin_attempt, hardware, without_secrets
from dist_train.system.machine.cores import usable_cores


def attempts(run: RunDir) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run.provenance.read_text())["attempts"]
    return found


def test_each_start_adds_an_entry(tree: dict[str, Any]) -> None:
    cfg = parse_config(tree)
    run = RunDir.of(cfg.run)
    assert begin_attempt(run, cfg, 2, ["a", "b"], ["NVIDIA H100"]) == 1
    assert begin_attempt(run, cfg, 1, ["a"]) == 2
    first, second = attempts(run)
    assert (first["attempt"], first["world_size"], first["hosts"]) == (1, 2, ["a", "b"])
    assert first["hardware"]["gpus"] == ["NVIDIA H100"]
    assert second["hardware"]["gpus"] == []
    assert first["versions"]["dist_train"] == dist_train.__version__
    assert {"command", "directory", "git", "slurm", "started"} <= first.keys()
    assert load_config(str(run.config), []) == cfg


def test_what_killed_starts_left_half_written_is_removed(tree: dict[str, Any]) -> None:
    cfg = parse_config(tree)
    run = RunDir.of(cfg.run)
    run.path.mkdir(parents=True)
    leftovers = [run.path / f".{name}.1234abcd.tmp" for name in ("metrics.jsonl", "result.json", "config.yaml")]
    for path in leftovers:
        path.write_text("half")
    begin_attempt(run, cfg, 1, ["a"])
    assert not any(path.exists() for path in leftovers)


def test_the_hardware_is_this_hosts() -> None:
    found = hardware()
    assert found["cores"] == usable_cores() <= found["cores_of_host"]
    total_kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert abs(found["memory_gib"] - total_kib / 2**20) < 0.1
    assert isinstance(found["cpu"], str)
    assert found["cpu"]


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("optim.lr=0.1", "optim.lr=0.1"),
        (
            "log.loggers=[{name: a.b:C, options: {api_key: abc, x: 1}}]",
            "log.loggers=[{name: a.b:C, options: {api_key: ***, x: 1}}]",
        ),
        ("loss.objective_options.password=abc", "loss.objective_options.password=***"),
        ("data.root=https://me:abc@host/x", "data.root=https://me:***@host/x"),
    ],
)
def test_no_secret_of_the_command_is_recorded(word: str, kept: str) -> None:
    assert without_secrets(word) == kept
