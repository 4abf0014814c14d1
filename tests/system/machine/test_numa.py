"""Ranks stay on the cores near their GPUs, on machines that are written as files of sysfs."""

import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Collection
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


LOST = "{} cores for a rank are near its GPU, and it has {} now"
IDLE = "no GPU is near the cores {}"


@pytest.mark.parametrize(
    ("nodes", "gpus", "expected"),
    [
        (TWO, [0, 0, 1, 1], ["NUMA node 0, cores 0-3,8-11"] * 2 + ["NUMA node 1, cores 4-7,12-15"] * 2),
        (TWO, [1, 0], ["NUMA node 1, cores 4-7,12-15", "NUMA node 0, cores 0-3,8-11"]),
        (EIGHT, [3, 1, 7, 5], [f"NUMA node {node}, cores {cores}" for node, cores in [(3, "0-7"), (1, "0-7"), (7, "8-15"), (5, "8-15")]]),
        (EIGHT, list(range(8)), [f"NUMA node {node}, cores {2 * node}-{2 * node + 1}" for node in range(8)]),
        (TWO, [0], [IDLE.format("4-7,12-15")]),  # the other half of the cores would have no work
        (TWO, [0, 0], [IDLE.format("4-7,12-15")] * 2),
        (TWO, [0, 0, 0, 1], [LOST.format(2, 4)] * 4),
        ({0: "0-15"}, [0, 0], [""] * 2),
        ({0: "0-15"}, [-1, -1], [""] * 2),
        (TWO, [-1, 1], [""] * 2),
        ({0: "0-15", 1: "16"}, [0, 1], [LOST.format(1, 8)] * 2),
    ],
)  # fmt: skip
def test_a_rank_stays_near_its_gpu_where_no_core_is_lost(
    nodes: dict[int, str], gpus: list[int], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numa, "SYS", machine(tmp_path, nodes, gpus))
    allowed = numa._cores(tmp_path / "devices/system/cpu/online")
    assert found(gpus, allowed) == expected


def found(gpus: list[int], allowed: Collection[int]) -> list[str]:
    """What each rank is bound to, or why it is not, where all may use ``allowed``."""
    cores_of = [allowed] * len(gpus)
    return [str(near_cores(GPUS[: len(gpus)], rank, cores_of)) for rank in range(len(gpus))]


FOUR = {0: "0-3", 1: "4-7", 2: "8-11", 3: "12-15"}


@pytest.mark.parametrize(
    ("nodes", "gpus", "allowed", "expected"),
    [
        (TWO, [0, 1], "2-5", ["NUMA node 0, cores 2-3", "NUMA node 1, cores 4-5"]),
        (TWO, [0, 0, 1, 1], "0-1,4-5", ["NUMA node 0, cores 0-1"] * 2 + ["NUMA node 1, cores 4-5"] * 2),
        (TWO, [0, 1], "0-3,4-6", ["NUMA node 0, cores 0-3", "NUMA node 1, cores 4-6"]),  # 7 cores: 3 for each, as now
        (FOUR, [0, 2], "0-1,8-9", ["NUMA node 0, cores 0-1", "NUMA node 2, cores 8-9"]),  # a job on a half of both nodes
        (FOUR, [1, 3], "0-1,8-9", ["NUMA node 1, cores 0-1", "NUMA node 3, cores 8-9"]),  # of the GPU's socket only
        (TWO, [0, 1], "0-3", [LOST.format(0, 2)] * 2),  # no core near the second GPU
        (TWO, [0, 1], "0-5", [LOST.format(2, 3)] * 2),
        (TWO, [0, 0], "0-3", [""] * 2),
        (TWO, [0, 0], "0-4", [IDLE.format("4")] * 2),
        (TWO, [0, 1], "3,4", ["NUMA node 0, cores 3", "NUMA node 1, cores 4"]),
        (TWO, [0, 1], "3", [LOST.format(0, 1)] * 2),
    ],
)  # fmt: skip
def test_a_job_with_some_cores_of_a_machine_binds_among_them(
    nodes: dict[int, str],
    gpus: list[int],
    allowed: str,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numa, "SYS", machine(tmp_path, nodes, gpus))
    assert found(gpus, numa._cores(_file(tmp_path / "allowed", allowed))) == expected


def test_no_rank_loses_a_core_whatever_a_job_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numa, "SYS", machine(tmp_path, FOUR, [0, 0, 1, 1, 2, 2, 3, 3]))
    draw, bound = random.Random(0), 0
    for _ in range(100):
        gpus = draw.sample(GPUS, draw.choice([1, 2, 4, 8]))
        allowed = frozenset(draw.sample(range(16), draw.randint(1, 16)))
        near = [near_cores(gpus, rank, [allowed] * len(gpus)) for rank in range(len(gpus))]
        places = [place for place in near if isinstance(place, Near)]
        assert len(places) in (0, len(gpus)), "all ranks decide alike"
        if places:
            bound += 1
            assert frozenset().union(*(place.cores for place in places)) == allowed, "no core is idle"
            assert all(len(place.cores) // place.ranks >= max(1, len(allowed) // len(gpus)) for place in places)
    assert bound > 3


def test_what_is_bound_already_and_what_cannot_be_read_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numa, "SYS", machine(tmp_path, TWO, [0, 1]))
    everything = range(16)
    assert near_cores(GPUS[:2], 0, [everything] * 2) == Near(0, frozenset([0, 1, 2, 3, 8, 9, 10, 11]), 1)
    for each in ([range(8), range(8, 16)], [everything, range(8)]):
        assert near_cores(GPUS[:2], 0, each) == "each has cores of its own already", "SLURM or torchrun has chosen"
    assert near_cores(GPUS[:3], 0, [everything] * 3) == "", "the kernel does not know the third GPU"
    (tmp_path / "devices/system/node/node1/cpulist").write_text("")
    assert near_cores(GPUS[:2], 0, [everything] * 2) == ""
    monkeypatch.setattr(numa, "SYS", tmp_path / "none")
    assert near_cores(GPUS[:2], 0, [everything] * 2) == ""


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
        near = bind_rank(GPUS[:2], 0, [sorted(os.sched_getaffinity(0))] * 2)
        end.set()
        thread.join()
        started = subprocess.run(
            [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"], capture_output=True, text=True
        )
        inside = near, seen[0], {int(core) for core in started.stdout.split()}, cores_per_rank()
        again = bind_rank(GPUS[:2], 0, [sorted(os.sched_getaffinity(0))] * 2)
    return {"inside": inside, "again": again, "restored": os.sched_getaffinity(0) == before}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) % 2 == 1, reason="needs two equal halves of cores")
def test_threads_and_later_processes_move_too_and_a_program_gets_its_cores_back(tmp_path: Path) -> None:
    [found] = run_ranks(1, _bound, tmp_path)
    cores = sorted(os.sched_getaffinity(0))
    first = set(cores[: len(cores) // 2])
    assert found["inside"] == (Near(0, frozenset(first), 1), first, first, len(first))
    assert found["again"] == LOST.format(0, max(1, len(first) // 2))
    assert found["restored"]


TWO_RANKS = """
import os, sys
from pathlib import Path
from dist_train.system.machine import numa

numa.SYS = Path(sys.argv[1])
gpus, mine = sys.argv[3:], sorted(os.sched_getaffinity(0))
print(numa.bind_rank(gpus, int(sys.argv[2]), [mine] * len(gpus)), "|", *sorted(os.sched_getaffinity(0)))
"""


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2 or not shutil.which("taskset"), reason="needs two cores, and taskset"
)
def test_under_taskset_a_rank_takes_its_part_of_the_cores(tmp_path: Path) -> None:
    """Of a machine with more cores than the process may use."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    machine(tmp_path, {0: f"{first},100-103", 1: f"{second},104-107"}, [0, 1])

    def bound(cores: str, rank: int) -> str:
        command = ["taskset", "-c", cores, sys.executable, "-c", TWO_RANKS, str(tmp_path), str(rank), *GPUS[:2]]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert bound(f"{first},{second}", 0) == f"NUMA node 0, cores {first} | {first}"
    assert bound(f"{first},{second}", 1) == f"NUMA node 1, cores {second} | {second}"
    assert bound(f"{first}", 0) == f"{LOST.format(0, 1)} | {first}", "a rank without a core keeps what it has"
