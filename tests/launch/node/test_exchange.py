"""Other nodes in place of those that the preflight has named."""

import json
from pathlib import Path

from dist_train.config import load_config
from dist_train.run.folder import RunDir
from launch.node import exchange
from launch.runs import starts
from tests.launch.brackets import write_config


def run_in(folder: Path) -> RunDir:
    run = RunDir.of(load_config(str(write_config(folder))).run)
    run.path.mkdir(parents=True)
    return run


def test_only_the_preflight_of_this_start_counts(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    assert exchange.nodes(run, "7.0 at n1:20000") == ()
    named = {"n2": "slow", "n1": "wrong", "n3,n4": "no name", "-x": "an option"}
    run.preflight.write_text(json.dumps({"start": "7.0 at n1:20000", "named": named}))
    assert exchange.nodes(run, "7.0 at n1:20000") == ("n1", "n2")
    assert exchange.nodes(run, "7.1 at n1:20001") == ()
    for damage in ("[]", "{", '{"start": "s", "named": ["n1"]}'):
        run.preflight.write_text(damage)
        assert exchange.nodes(run, "s") == ()


def test_a_job_asks_for_other_nodes_a_few_times_only(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    for restart in range(exchange.MOST):
        assert exchange.left(run, "7") == exchange.MOST - restart
        starts.record_start(run, "7", restart)
        starts.record_end(run, "requeue", "why", excluded=["n1"])
    starts.record_start(run, "7", exchange.MOST)
    starts.record_end(run, "requeue", "another reason")
    assert exchange.left(run, "7") == 0
    assert exchange.left(run, "8") == exchange.MOST
