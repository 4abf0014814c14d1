"""A rank is killed in every phase of a sharded save: nothing is lost, and the next attempt saves. So it is in whole runs.

An audit hook sees every operation on a file, so it knows each phase: the process kills itself just before the n-th.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dist_train.checkpoint.stored import load, newest
from dist_train.checkpoint.writing import answer_of
from dist_train.config import parse_config
from dist_train.inference.averaging import command as average
from dist_train.system.processes import children
from dist_train.training.attempt import main
from tests.support.ranks import RankFailure, Ranks, collect, start_ranks
from tests.support.runs import changed, folder, published, rows, state_digest, train
from tests.support.shares import equal, save_shares, share_of
from tests.support.states import state_of

MOST_PHASES = 100


def _writer(folder: Path, rank: int, token: str, dies_at: int | None) -> int:
    """Start the work of a rank's writer in a process of its own. Return the process."""
    best, limit_s = None if rank else folder / "best", 0.3 if token == "killed" else 60.0
    job, payload = share_of(folder / "checkpoints", state_of(2), rank, 2, 2, token, best, limit_s)
    pid = os.fork()
    if pid:
        return pid
    left = dies_at

    def watch(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        if left is not None and any(str(folder) in str(value) for value in args):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    os._exit(bool(answer_of(job, payload)))


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _newest(folder: Path) -> int:
    """The step of the newest checkpoint, whose content is that of its step."""
    found = newest(folder / "checkpoints")
    assert found is not None
    assert equal(load(found[0]), state_of(found[1].step))
    return found[1].step


def _killed(folder: Path, victim: int, phase: int) -> bool:
    """Kill a rank's writer in a phase of a save, and save again. Return whether it had come to this phase."""
    save_shares(folder / "checkpoints", state_of(1), 2)
    pids = [_writer(folder, rank, "killed", phase if rank == victim else None) for rank in (1, 0)]
    second, first = map(_ended, pids)
    died = -signal.SIGKILL in (first, second)
    assert _newest(folder) == 2 if first == 0 else _newest(folder) in (1, 2), "what rank 0 has reported is there"
    best = folder / "best"
    assert not best.exists() or _newest(folder) == 2, "no best weights of a step after the newest checkpoint"
    assert [_ended(_writer(folder, rank, "again", None)) for rank in (1, 0)] == [0, 0]
    assert _newest(folder) == 2
    assert sorted(os.listdir(folder)) == ["best", "checkpoints", "said"]
    left = set(os.listdir(folder / "checkpoints")) - {"step_00000001", "step_00000002"}
    assert left <= {".step_00000002.again.tmp"}, "of rank 1, which need not know that the checkpoint is there"
    return died


@pytest.mark.parametrize(("victim", "phases"), [(0, range(3, 40, 12)), (1, range(1, 9, 3))])
def test_a_kill_in_some_phases_of_a_sharded_save_loses_nothing(tmp_path: Path, victim: int, phases: range) -> None:
    died = 0
    for phase in phases:
        (folder := tmp_path / str(phase)).mkdir()
        died += _killed(folder, victim, phase)
    assert died >= 2


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_kill_in_every_phase_of_a_sharded_save_loses_nothing(tmp_path: Path, victim: int) -> None:
    for phase in range(MOST_PHASES):
        (folder := tmp_path / str(phase)).mkdir()
        if not _killed(folder, victim, phase):
            break
    assert phase > 5


FSDP = {"distributed__strategy": "fsdp", "train__ema": 0.9, "optim": {"name": "adamw", "lr": 0.005}}
EVERY_STEP = {"checkpoint": {"every_steps": 1, "keep": 100}}


def _main(tree: dict[str, Any]) -> int:
    return main(parse_config(tree))


def _victim(ranks: Ranks, name: str) -> int:
    """The process of ``rank 1``, or of ``writer 1``."""
    kind, rank = name.split()
    pid = int(ranks[int(rank)][0].pid)
    if kind == "rank":
        return pid
    return next(child for child in children(pid) if b"checkpoint.writer" in Path(f"/proc/{child}/cmdline").read_bytes())


@pytest.mark.slow
def test_a_run_goes_on_exactly_after_a_kill_of_a_rank_or_a_writer(tree: dict[str, Any]) -> None:
    tree = changed(tree, **FSDP, **EVERY_STEP, train__epochs=12)
    whole = train(tree, 2, run__name="whole")
    for victim in ("writer 0", "writer 1", "rank 0", "rank 1"):
        mine = changed(tree, run__name=victim.replace(" ", "-"))
        ranks, deadline = start_ranks(2, _main, mine), time.monotonic() + 100
        while not list(folder(mine).glob("checkpoints/step_*2")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(_victim(ranks, victim), signal.SIGKILL)
        with pytest.raises((RankFailure, AssertionError)):
            assert collect(ranks) == [0, 0]
        run = train(mine, 2)
        assert (state_digest(run), rows(run), published(run)) == (state_digest(whole), rows(whole), published(whole))


@pytest.mark.slow
def test_a_run_whose_newest_checkpoint_lacks_a_part_ends_the_same(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(changed(tree, **FSDP, **EVERY_STEP), 2)
    expected = state_digest(run), rows(run), published(run)
    for damage in ("missing", "truncated", "of another step"):
        latest, before = sorted((run / "checkpoints").glob("step_*"))[-1:-3:-1]
        file = latest / "state.1-of-2.safetensors"
        match damage:
            case "missing":
                file.unlink()
            case "truncated":
                os.truncate(file, file.stat().st_size // 2)
            case "of another step":
                shutil.copy(before / file.name, file)
        capsys.readouterr()
        train(changed(tree, **FSDP, **EVERY_STEP), 2)
        assert f"checkpoint {latest.name} is damaged ({'the blake3 digest of ' * (damage == 'of another step')}" in (
            capsys.readouterr().out
        )
        assert (state_digest(run), rows(run), published(run)) == expected


@pytest.mark.slow
def test_commands_read_the_checkpoints_of_such_a_run(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run = train(changed(tree, **FSDP, **EVERY_STEP), 2)
    assert average.main([str(run), "--last", "2", "--name", "mean"]) == 0, capsys.readouterr()
    parts = [load(path)["ema"] for path in sorted((run / "checkpoints").glob("step_*"))[-2:]]
    for name, mean in load_file(run.with_name("mean") / "best.safetensors").items():
        torch.testing.assert_close(mean, (parts[0][name].double() + parts[1][name].double()).div(2).to(mean.dtype))
    best = load_file(run / "best.safetensors")
    assert {name: value.shape for name, value in best.items()} == {
        name: value.shape for name, value in parts[0].items()
    }
