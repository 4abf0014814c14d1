"""Messages of failures, and which start may write ``result.json``."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from dist_train.config import parse_config
from dist_train.drill.faults import Traces, wait_until
from dist_train.errors import EXIT_STOPPED
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, load_result, read_result, write_result
from dist_train.system.terminal import tell_torchrun
from dist_train.training.failure import leave, left_by_others, write_failure
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
    write_failure(run, "comm", "rank 1: lost", of_this_start=False, attempt=1)
    assert read_result(run)["status"] == "running"
    write_failure(run, "comm", "rank 1: lost", of_this_start=False, attempt=2)
    assert read_result(run)["status"] == "failed"


def test_too_little_memory_is_a_sentence_and_a_result(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_ranks(1, _main_in_little_memory, changed(tree, train__micro_batch=6)) == [1]
    result = read_result(RunDir(folder(tree)))
    assert result["error"] == "oom"
    assert "out of memory with train.micro_batch=6: lower it" in result["message"]
    printed = capsys.readouterr().out
    assert "Tried to allocate 2.00 GiB" in printed
    assert "Traceback" not in printed


def test_torchruns_own_report_ends_with_the_sentence(tree: dict[str, Any], tmp_path: Path) -> None:
    """What a user reads last, where torchrun would give a link."""
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(changed(tree, optim__lr=1e25, checkpoint__every_steps=1)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    done = subprocess.run(
        [*torchrun, "-m", "dist_train", "--config", tmp_path / "run.yaml"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    printed = done.stdout
    ours, theirs = printed.split("Root Cause")
    sentence = r"NaN or infinite .*(after|in) .*[\s\S]*lower `optim.lr`"
    assert re.search(f"error: .*{sentence}", ours), ours[-2000:]
    assert re.search(f"traceback : .*{sentence}", theirs), theirs


def test_without_torchrun_nothing_is_told_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    tell_torchrun("other", "words")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "")  # as torchrun sets it where it keeps no logs
    tell_torchrun("other", "words")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("first", "later"), [("other", "comm"), ("nonfinite", "comm")])
def test_a_rank_that_lost_another_is_not_taken_for_the_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: Any, later: Any
) -> None:
    failures = {}
    for rank, kind in ((0, later), (1, first)):
        path = tmp_path / f"{rank}.json"
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
        tell_torchrun(kind, f"rank {rank}")
        failures[rank] = ProcessFailure(local_rank=rank, pid=1, exitcode=1, error_file=str(path))
    assert ChildFailedError("dist_train", failures).get_first_failure()[0] == 1


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


def test_a_rank_that_leaves_says_what_is_saved(tree: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    cfg = parse_config(tree)
    run = RunDir.of(cfg.run)
    (run.checkpoints / "step_00000004").mkdir(parents=True)
    write_result(run, Result(status="running", attempt=2, step=6, total_steps=10))
    assert leave(cfg, "SIGTERM", 2) == EXIT_STOPPED
    result = load_result(run)
    assert (result.status, result.step, result.total_steps) == ("stopped", 4, 10), "where the next start continues"
    assert result.message == "left after SIGTERM without a save, while it waited"
    assert "the last checkpoint is that of step 4; start the same command again" in caplog.text


@pytest.mark.parametrize(
    ("attempt", "status"), [(None, "failed"), (None, "done"), (1, "running"), (2, "failed"), (2, "done")]
)
def test_a_rank_that_leaves_changes_no_result_of_others(tree: dict[str, Any], attempt: int | None, status: Any) -> None:
    cfg = parse_config(tree)
    run = RunDir.of(cfg.run)
    run.path.mkdir(parents=True)
    write_result(run, Result(status=status, attempt=2, step=6))
    before = run.result.read_bytes()
    leave(cfg, "SIGHUP", attempt)
    assert run.result.read_bytes() == before


def test_ranks_that_lose_others_after_a_stop_signal_were_stopped_too() -> None:
    lost = RuntimeError("[gloo] Connection closed by peer")
    assert left_by_others(lost, "SIGTERM")
    assert not left_by_others(lost, "")
    assert not left_by_others(ValueError("of the user's code"), "SIGTERM")
