"""The preflight names nodes that are slow or wrong, and no others."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed import preflight
from dist_train.distributed.group import Dist, joined
from dist_train.distributed.preflight import Figures, faults, measure, slow_nodes, table
from dist_train.errors import DistTrainError
from tests.support.ranks import run_ranks

USUAL = Figures(0, "n1", "CPU", matmul=1.0, memory=20.0, disk=100.0, right=True, bits="a", all_reduce=900.0)


def ranks(*changes: dict[str, object]) -> list[Figures]:
    """Two ranks per node."""
    return [
        replace(USUAL, **{"rank": rank, "node": f"n{1 + rank // 2}"} | change)  # type: ignore[arg-type]
        for rank, change in enumerate(changes)
    ]


def test_a_rank_a_fifth_slower_than_the_others_names_its_node() -> None:
    assert slow_nodes(ranks({}, {}, {}, {"matmul": 0.79})) == {
        "n2": "rank 3 is 21 % slower in matrix products than the others"
    }
    assert slow_nodes(ranks({}, {}, {"memory": 10.0}, {})) == {
        "n2": "rank 2 is 50 % slower in copies in memory than the others"
    }
    assert slow_nodes(ranks({}, {"matmul": 0.5})) != {}  # two ranks


def test_usual_differences_slow_disks_and_slow_clusters_name_nobody() -> None:
    assert slow_nodes(ranks({"matmul": 0.81}, {"memory": 17.0}, {"matmul": 1.3}, {})) == {}
    assert slow_nodes(ranks({"disk": 1.0}, {"all_reduce": 1.0}, {}, {})) == {}
    assert slow_nodes(ranks(*[{"matmul": 0.01}] * 8)) == {}
    assert slow_nodes(ranks({})) == {}


def test_wrong_results_are_found_by_the_known_value_and_by_the_bits_of_the_others() -> None:
    assert faults(ranks({}, {}, {"bits": "b"}, {})) == {"n2": "rank 2 computes wrong results"}
    assert faults(ranks({"right": False}, {})) == {"n1": "rank 0 computes wrong results"}
    assert faults(ranks({}, {"bits": "b"})) == {}  # which of two is wrong, only the known value tells
    assert faults(ranks({}, {}, {})) == {}


def test_one_rank_alone_is_measured(tmp_path: Path) -> None:
    (figures,) = measure(Dist.alone(), tmp_path)
    assert figures.right
    assert min(figures.matmul, figures.memory, figures.disk) > 0
    assert list(tmp_path.iterdir()) == []
    assert "yes" in table([figures]).splitlines()[1]


def test_a_product_that_changes_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_ROUND_S", 0.01)
    right = preflight._matmul(torch.device("cpu"))
    calls = []

    def faulty(left: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        calls.append(0)
        product = torch.mm(left, other)
        product[-1, -1] += len(calls) == 3  # once, where no known value stands
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", faulty)
    wrong = preflight._matmul(torch.device("cpu"))
    assert (right[1], wrong[1]) == (True, False)
    assert right[2] == wrong[2]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DistTrainError, match="cannot write to the run folder"):
        measure(Dist.alone(), tmp_path / "missing")


def _on_a_core_with_others(folder: str) -> list[Figures]:
    """Rank 1 shares its core with three busy processes; each rank has a core of its own otherwise."""
    cores = sorted(os.sched_getaffinity(0))
    rank = int(os.environ["RANK"])
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * rank)]
    try:
        with joined(DistributedConfig(timeout_s=60)) as group:
            return measure(group, Path(folder))
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_rank_on_a_busy_core_is_named(tmp_path: Path) -> None:
    found = run_ranks(2, _on_a_core_with_others, str(tmp_path))
    assert found[0] == found[1]
    by_rank = [replace(rank, node=f"n{rank.rank}") for rank in found[0]]
    assert list(slow_nodes(by_rank)) == ["n1"], table(by_rank)
    assert faults(by_rank) == {}
