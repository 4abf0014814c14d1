"""What follows from a preflight: a warning, or another start on other nodes."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.distributed import preflight
from dist_train.distributed.preflight import Figures
from dist_train.run.result import EXCHANGE, START_NAME
from dist_train.training.attempt import main
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, state_digest, train


def _with_figures(tree: dict[str, Any], change: dict[str, Any], env: dict[str, str]) -> int:
    """A start whose rank 1 measures something else."""
    os.environ.update(env)
    mine = Figures(int(os.environ["RANK"]), f"n{os.environ['RANK']}", "CPU", 1.0, 20.0, 100.0, True, "a")
    values = {**preflight.asdict(mine), **(change if os.environ["RANK"] == "1" else {})}
    preflight._alone = lambda group, folder: Figures(**values)
    return main(parse_config(tree))


def test_a_slow_node_is_a_warning_and_changes_nothing(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    straight = train(tree, 2, run__name="straight")
    capsys.readouterr()
    tree = changed(tree, run__name="measured", distributed__preflight=True)
    assert run_ranks(2, _with_figures, tree, {"matmul": 0.5}, {}) == [0, 0]
    output = capsys.readouterr().out
    assert "preflight: n1: rank 1 is 50 % slower in matrix products than the others" in " ".join(output.split())
    assert state_digest(folder(tree)) == state_digest(straight)
    found = json.loads((folder(tree) / "preflight.json").read_text())
    assert (list(found["named"]), found["start"]) == (["n1"], None)
    assert [rank["matmul"] for rank in found["ranks"]] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("change", "env"),
    [
        ({"memory": 1.0}, {EXCHANGE: "1", START_NAME: "7.0 at here:1"}),
        pytest.param({"right": False}, {}, marks=pytest.mark.slow),
    ],
    ids=["slow, under a supervisor", "wrong"],
)
def test_a_node_that_must_go_ends_the_start(tree: dict[str, Any], change: dict[str, Any], env: dict[str, str]) -> None:
    tree = changed(tree, distributed__preflight=True)
    assert run_ranks(2, _with_figures, tree, change, env) == [1, 1]
    result = json.loads((folder(tree) / "result.json").read_text())
    assert (result["status"], result["error"]) == ("failed", "node")
    assert "preflight: n1: rank 1" in result["message"]
    found = json.loads((Path(folder(tree)) / "preflight.json").read_text())
    assert found["start"] == env.get(START_NAME)
