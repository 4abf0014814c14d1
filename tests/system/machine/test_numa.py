"""Ranks stay on the cores near their GPUs, on machines that are written as files of sysfs."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dist_train.system.machine import numa
from dist_train.system.machine.cores import cores_per_rank
from dist_train.system.machine.numa import Near, bind_rank, near_cores, restored_cores
from tests.support.ranks import run_ranks

GPUS = [f"0000:{bus:02x}:00.0" for bus in range(8)]


def machine(path: Path, nodes: dict[int, str], gpus: list[int], sockets: int = 2) -> Path:
    """Write the files of a machine: the cores of each node, the node of each GPU, as many nodes for each socket."""
    files, cores = {}, {node: numa._cores(_file(path / f"{node}", text)) for node, text in nodes.items()}
    files["devices/system/cpu/online"] = ",".join(nodes.values())
    files |= {f"bus/pci/devices/{GPUS[number]}/numa_node": str(node) for number, node in enumerate(gpus)}
    for node, text in nodes.items():
        files[f"devices/system/node/node{node}/cpulist"] = text
        place = "devices/system/cpu/cpu{}/topology/physical_package_id"
        files |= {place.format(core): str(node * sockets // len(nodes)) for core in cores[node]}
    for name, text in files.items():
        _file(path / name, text + "\n")
    return path


def _file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def halves() -> dict[int, str]:
    """Two nodes with the cores of this process."""
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))]
    return {0: ",".join(cores[: len(cores) // 2]), 1: ",".join(cores[len(cores) // 2 :])}


TWO = {0: "0-3,8-11", 1: "4-7,12-15"}
EIGHT = {node: f"{2 * node}-{2 * node + 1}" for node in range(8)}


@pytest.mark.parametrize(
    ("nodes", "gpus", "expected"),
    [
        (TWO, [0, 0, 1, 1], ["NUMA node 0, cores 0-3,8-11"] * 2 + ["NUMA node 1, cores 4-7,12-15"] * 2),
        (TWO, [1, 0], ["NUMA node 1, cores 4-7,12-15", "NUMA node 0, cores 0-3,8-11"]),
        (EIGHT, [3, 1, 7, 5], [f"NUMA node {node}, cores {cores}" for node, cores in [(3, "0-7"), (1, "0-7"), (7, "8-15"), (5, "8-15")]]),
        (EIGHT, list(range(8)), [f"NUMA node {node}, cores {2 * node}-{2 * node + 1}" for node in range(8)]),
        (TWO, [0], ["None"]),  # the other half of the cores would have no work
        (TWO, [0, 0], ["None"] * 2),
        (TWO, [0, 0, 0, 1], ["None"] * 4),
        ({0: "0-15"}, [0, 0], ["None"] * 2),
        ({0: "0-15"}, [-1, -1], ["None"] * 2),
        (TWO, [-1, 1], ["None"] * 2),
        ({0: "0-15", 1: "16"}, [0, 1], ["None"] * 2),  # rank 1 would have one core
    ],
)  # fmt: skip
def test_a_rank_stays_near_its_gpu_where_no_core_is_lost(
    nodes: dict[int, str], gpus: list[int], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numa, "SYS", machine(tmp_path, nodes, gpus))
    allowed = set(numa._cores(tmp_path / "devices/system/cpu/online"))
    assert [str(near_cores(GPUS[: len(gpus)], rank, allowed)) for rank in range(len(gpus))] == expected


def test_what_is_bound_already_and_what_cannot_be_read_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numa, "SYS", machine(tmp_path, TWO, [0, 1]))
    everything = set(range(16))
    assert near_cores(GPUS[:2], 0, everything) == Near(0, frozenset([0, 1, 2, 3, 8, 9, 10, 11]), 1)
    assert near_cores(GPUS[:2], 0, everything - {15}) is None, "SLURM or taskset has chosen"
    assert near_cores(GPUS[:3], 0, everything) is None, "the kernel does not know the third GPU"
    (tmp_path / "devices/system/node/node1/cpulist").write_text("")
    assert near_cores(GPUS[:2], 0, everything) is None
    monkeypatch.setattr(numa, "SYS", tmp_path / "none")
    assert near_cores(GPUS[:2], 0, everything) is None


def _bound(path: Path) -> dict[str, Any]:
    """Bind the first of two ranks; it has a thread that began before, and starts a process afterwards."""
    before = os.sched_getaffinity(0)
    numa.SYS = machine(path, halves(), [0, 1])
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    end, seen = threading.Event(), []

    def look() -> None:
        end.wait()
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=look)
    thread.start()
    with restored_cores():
        near = bind_rank(GPUS[:2], 0)
        end.set()
        thread.join()
        started = subprocess.run(
            [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"], capture_output=True, text=True
        )
        inside = near, seen[0], {int(core) for core in started.stdout.split()}, cores_per_rank()
        again = bind_rank(GPUS[:2], 0)
    return {"inside": inside, "again": again, "restored": os.sched_getaffinity(0) == before}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) % 2 == 1, reason="needs two equal halves of cores")
def test_threads_and_later_processes_move_too_and_a_program_gets_its_cores_back(tmp_path: Path) -> None:
    [found] = run_ranks(1, _bound, tmp_path)
    cores = sorted(os.sched_getaffinity(0))
    first = set(cores[: len(cores) // 2])
    assert found["inside"] == (Near(0, frozenset(first), 1), first, first, len(first))
    assert found["again"] is None
    assert found["restored"]
