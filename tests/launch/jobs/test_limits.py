"""What can never start is named; what can start in one of the partitions is not."""

from dataclasses import replace

import pytest

from launch.jobs.limits import Request, complaints, downs
from launch.jobs.option_values import Gpus
from launch.scheduler.cluster import Cluster, Offer

SMALL = Offer("small", True, True, 7200, nodes=4, max_nodes=2, cpus=8, mem_mb=16000, gpus={"l4": 2})
BIG = Offer("big", False, True, None, nodes=2, max_nodes=None, cpus=64, mem_mb=256000, gpus={"a100": 8})
PLAIN = replace(BIG, gpus={}, cpus=128)
CLUSTER = Cluster((SMALL, BIG, PLAIN))
FITS = Request("small", "2:00:00", 7200, nodes=2, cpus=8, mem="15G", gpus=Gpus(2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"time": "3:00:00", "seconds": 10800},
            "--time (3:00:00) is above the limit of partition small; use at most 2:00:00",
        ),
        ({"nodes": 3}, "--nodes (3) is above the limit of partition small; use at most 2"),
        ({"cpus": 9}, "9 CPUs per node (--cpus-per-gpu for each worker) are above the 8 of partition small"),
        ({"mem": "16G"}, "--mem (16G) is above the largest node of partition small; use at most 16000M"),
        ({"gpus": Gpus(3)}, "--gpus-per-node (3) is more than a node of partition small has: l4:2"),
        ({"gpus": Gpus(1, "a100")}, "--gpus-per-node (a100:1) is more than a node of partition small has: l4:2"),
        ({"partition": "big", "nodes": 5}, "--nodes (5) is above the limit of partition big; use at most 4"),
        (
            {"partition": "big", "nodes": 3, "gpus": Gpus(8)},
            "no 3 node(s) of partition big have 8 CPUs and 15G of memory and 8 GPUs at once, within the limits",
        ),
        (
            {"partition": "big", "cpus": 128, "gpus": Gpus(8, "a100")},
            "no 2 node(s) of partition big have 128 CPUs and 15G of memory and a100:8 GPUs at once, within the limits",
        ),
        (
            {"partition": None, "cpus": 9},
            "9 CPUs per node (--cpus-per-gpu for each worker) are above the 8 of partition small",
        ),
        (
            {"partition": "small,big", "gpus": Gpus(9)},
            "--gpus-per-node (9) is more than a node of partition big and partition small has: a100:8, l4:2",
        ),
        (
            {"partition": "small,big", "nodes": 3, "gpus": Gpus(1, "l4")},
            "no 3 node(s) of partition big and partition small have 8 CPUs and 15G of memory and l4:1 GPUs at once, "
            "within the limits",
        ),
    ],
)
def test_what_can_never_start(changes: dict[str, object], words: str) -> None:
    assert complaints(replace(FITS, **changes), CLUSTER) == [words]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"partition": None},
        {"mem": None},
        {"gpus": Gpus(2, "l4")},
        {"gpus": Gpus()},
        {"partition": "big", "time": "30-0", "seconds": 30 * 86400, "nodes": 4, "gpus": Gpus()},
        {"partition": "small,big", "gpus": Gpus(8)},
        {"partition": "unknown"},
    ],
)
def test_what_can_start(changes: dict[str, object]) -> None:
    assert complaints(replace(FITS, **changes), CLUSTER) == []  # type: ignore[arg-type]
    assert complaints(replace(FITS, **changes), Cluster()) == []  # type: ignore[arg-type]


def test_every_option_that_is_too_large_is_named() -> None:
    found = complaints(replace(FITS, time="1-0", seconds=86400, nodes=9, cpus=99), CLUSTER)
    assert [text.split()[0] for text in found] == ["--time", "--nodes", "99"]


def test_a_partition_that_is_down() -> None:
    both = Cluster((replace(SMALL, up=False), BIG))
    assert downs(FITS, both) == ["small"]
    assert downs(replace(FITS, partition="big"), both) == []
