"""Limits of memory and processes: of the machine, or of the cgroup."""

from pathlib import Path

import pytest

from dist_train.system.machine import limits
from dist_train.system.machine.limits import cpu_limit, free_memory, memory_limit, processes_left


def test_the_machine_itself() -> None:
    limit, where = memory_limit()
    assert 0 < free_memory() <= limit
    assert "memory" in where
    assert processes_left() > 0


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a cgroup of version 2, as a container sees them: its own is the root."""
    monkeypatch.setattr(limits, "_cgroups", lambda _: [tmp_path])
    return tmp_path


def test_a_container_with_less_than_the_machine(group: Path) -> None:
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("900000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 300000\n")
    assert memory_limit() == (1000000, "the memory limit of this container or job")
    assert free_memory() == 400000
    (group / "memory.current").write_text("9000000\n")
    assert free_memory() == 0


def test_a_container_without_limits(group: Path) -> None:
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("900000\n")
    (group / "pids.max").write_text("max\n")
    assert memory_limit()[1] == "the memory of this machine"
    assert free_memory() > 0
    assert processes_left() == float("inf")


def test_version_1(group: Path) -> None:
    (group / "memory.limit_in_bytes").write_text("2000000\n")
    (group / "memory.usage_in_bytes").write_text("500000\n")
    assert memory_limit()[0] == 2000000
    assert free_memory() == 1500000


def test_processes_that_are_left(group: Path) -> None:
    (group / "pids.max").write_text("100\n")
    (group / "pids.current").write_text("97\n")
    assert processes_left() == 3


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, float("inf")),
        ({"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_cpu_time_of_a_container(group: Path, files: dict[str, str], cores: float) -> None:
    for name, text in files.items():
        (group / name).write_text(text)
    assert cpu_limit() == cores


def test_the_narrowest_group_limits_cpu_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    for folder, text in ((inner, "400000 100000"), (outer, "300000 100000")):
        folder.mkdir()
        (folder / "cpu.max").write_text(text)
    monkeypatch.setattr(limits, "_cgroups", lambda _: [inner, outer])
    assert cpu_limit() == 3


def test_own_groups_and_those_above_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CGROUPS", tmp_path)
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        name = next((name for name in controllers.split(",") if name), "")
        (tmp_path / name / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    found = list(limits._cgroups("memory"))
    assert found
    assert all(folder.is_dir() and folder.is_relative_to(tmp_path) for folder in found)
