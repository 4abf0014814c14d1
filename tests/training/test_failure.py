"""How a failure is told, and whose ``result.json`` it is."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.config import parse_config
from dist_train.drill.faults import Traces, wait_until
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, read_result, write_result
from dist_train.training.failure import explained, kind_of, note_failure
from tests.support.forked_start import ForkedStart
from tests.support.ranks import collect, run_ranks, start_ranks
from tests.support.runs import changed, folder


def _main(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


def _main_in_little_memory(tree: dict[str, Any]) -> int:
    from dist_train.training import loop as trainer

    def step(stepper: Any, state: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    trainer.train_step = step
    return _main(tree)


def test_a_rank_of_an_earlier_attempt_leaves_the_result_of_a_later_one_alone(tree: dict[str, Any]) -> None:
    """One that has waited for a lost node, while the run was started again elsewhere."""
    run = RunDir(folder(tree))
    write_result(run, Result(attempt=2))
    note_failure(run, "comm", "rank 1: lost", of_this_start=False, attempt=1)
    assert read_result(run)["status"] == "running"
    note_failure(run, "comm", "rank 1: lost", of_this_start=False, attempt=2)
    assert read_result(run)["status"] == "failed"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), "oom", "says: can't"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "oom", "`train.micro_batch` (6) is too"),
        (RuntimeError("x_cuda does not have a deterministic implementation, but"), "config", "`run.deterministic` (true)"),
    ],
)  # fmt: skip
def test_what_torch_says_becomes_what_to_do(tree: dict[str, Any], error: Exception, kind: str, words: str) -> None:
    told = explained(error, parse_config(changed(tree, train__micro_batch=6)))
    assert kind_of(told) == kind
    assert words in str(told)


def test_other_errors_stay_what_they_are(tree: dict[str, Any]) -> None:
    for error in (RuntimeError("some other fault"), OSError(5, "Input/output error", "/elsewhere/file")):
        assert explained(error, parse_config(tree)) is error


def test_too_little_memory_is_a_sentence_and_a_result(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_ranks(1, _main_in_little_memory, changed(tree, train__micro_batch=6)) == [1]
    result = read_result(RunDir(folder(tree)))
    assert result["error"] == "oom"
    assert "`train.micro_batch` (6) is too much for the memory: lower it" in result["message"]
    printed = capsys.readouterr().out
    assert "Tried to allocate 2.00 GiB" in printed
    assert "Traceback" not in printed


def test_a_killed_loader_process_is_a_sentence(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    long = changed(tree, train__epochs=10**4, eval__every_steps=10**6, log__every_steps=1, data__workers=1)
    ranks = start_ranks(1, _main, long)
    assert wait_until(lambda: Traces(RunDir(folder(tree))).reached() > 1, ForkedStart(ranks), 60)
    pid = ranks[0][0].pid
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    loaders = [child for child in children if b"writer" not in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(loaders[0], signal.SIGKILL)
    assert collect(ranks) == [1]
    assert "lower `data.workers` (1) or `data.prefetch`" in read_result(RunDir(folder(tree)))["message"]
    assert "Traceback" not in capsys.readouterr().out
