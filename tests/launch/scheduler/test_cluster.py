"""Answers of ``sinfo`` and ``scontrol``; ``tests/slurm`` has those of a real SLURM."""

import time
from pathlib import Path

import pytest

from launch.scheduler import cluster
from launch.scheduler.cluster import Cluster, Offer


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that are found first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    answer(tmp_path / "scontrol", "echo 'MaxArraySize            = 1001'")
    return tmp_path


def answer(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def offers(tool: Path, *lines: str) -> Cluster:
    answer(tool / "sinfo", "cat <<'END'\n" + "\n".join(lines) + "\nEND")
    return cluster.look()


def test_the_shell_of_a_user_hides_no_partition(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINFO_PARTITION", "debug")
    answer(tool / "sinfo", 'echo "all${SINFO_PARTITION}*|up|infinite|1-infinite|2|8|16000|(null)"')
    assert cluster.look().partitions == ["all"]


def test_a_line_of_sinfo(tool: Path) -> None:
    seen = offers(
        tool,
        "gpu*|up|1-00:00:00|1-4|8|64|256000+|gpu:a100:4(S:0-1),tmpfs:1",
        "cpu|down|infinite|1-infinite|2|8|16000|(null)",
    )
    assert seen == Cluster(
        (
            Offer("gpu", True, True, 86400, 8, 4, 64, 256000, {"a100": 4}),
            Offer("cpu", False, False, None, 2, None, 8, 16000, {}),
        ),
        1001,
    )
    assert seen.partitions == ["cpu", "gpu"]


@pytest.mark.parametrize(
    ("gres", "partition", "count"),
    [
        (["big|gpu:h100:8(S:0-1)", "small*|gpu:a100:4", "small*|gpu:2,tmpfs:1"], None, 4),
        (["cpu*|(null)", "gpu|gpu:8"], None, 0),
        (["gpu|gpu:h100:4,gpu:l4:2"], "gpu", 6),
        (["a|gpu:1", "b|gpu:3", "c|gpu:8"], "a,b", 3),
        (["a|gpu:tesla:2(IDX:0-1)"], None, 2),
        ([], None, None),
    ],
)
def test_gpus_of_the_default_partition_count_where_none_is_named(
    tool: Path, gres: list[str], partition: str | None, count: int | None
) -> None:
    fields = [line.split("|") for line in gres]
    seen = offers(tool, *(f"{name}|up|infinite|1-infinite|1|4|8000|{kinds}" for name, kinds in fields))
    assert seen.gpus_in_a_node(partition) == count


def test_without_slurm_nothing_is_offered_and_nobody_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert cluster.look() == Cluster()


def test_a_controller_that_does_not_answer_costs_so_many_seconds(tool: Path) -> None:
    answer(tool / "sinfo", "exec sleep 60")
    began = time.monotonic()
    assert cluster.look(0.5) == Cluster(silent=True)
    assert time.monotonic() - began < 10
    answer(tool / "sinfo", "echo 'Unable to contact slurm controller' >&2; exit 1")
    assert cluster.look().silent


def test_one_command_asks_once(tool: Path) -> None:
    answer(tool / "sinfo", f"echo >> {tool}/asked; echo 'a*|up|infinite|1-infinite|1|4|8000|(null)'")
    cluster.known.cache_clear()
    try:
        assert cluster.known(True) == cluster.known(True)
    finally:
        cluster.known.cache_clear()
    assert (tool / "asked").read_text() == "\n"
