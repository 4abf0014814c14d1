"""A rank hangs: the others stop after the timeout and print where they wait; the run can resume."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dist_train.drill.faults import Traces, wait_until
from dist_train.run.folder import RunDir
from tests.support.forked_start import ForkedStart
from tests.support.ranks import RankFailure, Ranks, collect, start_ranks
from tests.support.runs import _main, changed, folder, rows, state_digest, train


def _outputs(ranks: Ranks) -> list[str]:
    return [Path(output.name).read_text() for _, _, output in ranks]


def _code(ranks: Ranks, rank: int) -> Any:
    """The exit code: of a rank that returned it, or that the watchdog ended while it waited in C++."""
    process, pipe, _ = ranks[rank]
    assert pipe.poll(60), f"rank {rank} hangs"
    try:
        return pipe.recv()[1]
    except EOFError:
        process.join(20)
        return process.exitcode


def test_a_stopped_process_does_not_hold_the_others_for_ever(tree: dict[str, Any]) -> None:
    tree = changed(tree, checkpoint__every_steps=2, train__epochs=6, distributed__timeout_s=4, log__every_steps=1)
    tree = changed(tree, model__options={"depth": 2})
    straight = train(tree, 3, run__name="straight")
    ranks = start_ranks(3, _main, tree)
    pids = [process.pid for process, _, _ in ranks]
    traces = Traces(RunDir(folder(tree)))
    started = ForkedStart(ranks)
    assert wait_until(lambda: traces.reached() >= 5, started, 60)
    os.kill(pids[1], signal.SIGSTOP)
    assert [_code(ranks, rank) for rank in (0, 2)] == [1, 1]
    for rank in (0, 2):
        text = _outputs(ranks)[rank]
        assert "Timeout: no progress for 4 s" in text, text
        assert 'loop.py", line' in text, "the stack shows where this rank waits"
        missed = (
            "no progress for `distributed.timeout_s` (4) seconds",
            f"rank {rank} lost the connection to another rank",
        )
        assert any(words in text for words in missed), text
    result = json.loads((folder(tree) / "result.json").read_text())
    assert (result["status"], result["error"]) == ("failed", "comm")
    os.kill(pids[1], signal.SIGKILL)  # SIGTERM would wait with it
    with pytest.raises(RankFailure):
        collect(ranks, timeout_s=1, quiet=True)
    train(tree, 3)
    assert state_digest(folder(tree)) == state_digest(straight)
    assert rows(folder(tree)) == rows(straight)
