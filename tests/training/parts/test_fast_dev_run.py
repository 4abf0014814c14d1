"""`train.fast_dev_run`: the config is tried in a few steps, and nothing is left."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dist_train
from dist_train.config import parse_config
from dist_train.drill.rehearsal import drill_config
from dist_train.errors import ConfigError, TakenError
from dist_train.hooks.base import Hook
from dist_train.run.folder import RunDir
from dist_train.run.lock import RunLock
from dist_train.training.parts.fast_dev_run import config_of_start, make_folder, remove_folder
from tests.support.loggers import RowFile
from tests.support.ranks import run_ranks
from tests.support.runs import changed, fails, folder, state_digest, train


def _main(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


def _trial(tree: dict[str, Any], **more: Any) -> dict[str, Any]:
    return changed(tree, train__fast_dev_run=True, **more)


def _left(tree: dict[str, Any]) -> list[str]:
    return sorted(path.name for path in Path(tree["run"]["output_dir"]).glob("*"))


def _words(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_ranks_try_a_config_and_leave_nothing(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of keys in epochs that come later, of loggers, and of what a killed start has left."""
    left = folder(tree).with_name("test.fast_dev_run")
    (left / "checkpoints" / "step_00000009").mkdir(parents=True)
    (left / "fast_dev_run").touch()
    loggers = [{"name": f"{RowFile.__module__}:RowFile", "options": {"path": str(tmp_path / "rows")}}]
    tree = _trial(
        tree, model__freeze="backbone", model__unfreeze={1: "all"}, log__tensorboard=True, log__loggers=loggers
    )
    assert run_ranks(2, _main, changed(tree, eval__batch_size=2)) == [0, 0]
    assert _left(tree) == []
    assert not (tmp_path / "rows.log").exists()
    words = _words(capsys)
    assert words.count("W&B, TensorBoard and loggers of your own are off") == 1
    assert "6 validation images" in words, "three batches of two"
    assert "continues at step 3 of 10" in words
    assert "the config is right: 4 of 10 steps on 2 rank(s), evaluations (top1 " in words
    assert "start the same command again" not in words


def test_a_run_of_the_name_stays_as_it_is(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tree, train__epochs=1, schedule__name="constant")
    before = state_digest(run), {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert run_ranks(1, _main, _trial(tree, run__resume="never", optim__lr=0.9, train__global_batch=15)) == [0]
    assert _left(tree) == ["test"]
    assert before == (state_digest(run), {path: path.stat().st_mtime_ns for path in run.rglob("*")})
    assert run_ranks(1, _main, _trial(tree, train__max_steps=2)) == [0], "a run that is shorter"
    assert "2 of 2 steps" in _words(capsys)


@pytest.mark.parametrize("wrong", [{"optim__lr": 1e25}, {"data__root": "missing"}])
def test_a_config_that_is_wrong_fails_as_a_training_does(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str], wrong: dict[str, Any]
) -> None:
    words = fails(_trial(tree, **wrong), capsys)
    assert "the config is right" not in words
    assert _left(tree) == []


class _Count(Hook):
    """Counts steps, and sends a stop signal after the third one if asked to."""

    def __init__(self, stop: bool = False) -> None:
        self.starts: list[int] = []
        self.stop = stop

    def start(self, begun: Any) -> None:
        self.starts.append(begun.step)

    def after_step(self, step: int, scalars: Any) -> None:
        if self.stop and step == 2:
            signal.raise_signal(signal.SIGTERM)


def _in_a_program(tree: dict[str, Any], rows: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
    before = [value.clone() for value in model.parameters()]
    hook = _Count()
    result = dist_train.train(parse_config(tree), model=model, loggers=[RowFile(str(rows))], hooks=[hook])
    assert (result.status, result.step, result.total_steps, result.paused) == ("done", 4, 10, False)
    assert hook.starts == [0, 3]
    assert all(map(torch.equal, before, model.parameters())), "the program trains it next"
    assert not rows.with_suffix(".log").exists()
    assert _left(tree) == []
    result = dist_train.train(parse_config(tree), model=model, hooks=[stopping := _Count(stop=True)])
    assert (result.status, stopping.starts) == ("stopped", [0])
    assert _left(tree) == []


def test_in_a_program(tree: dict[str, Any], tmp_path: Path) -> None:
    run_ranks(1, _in_a_program, _trial(tree), tmp_path / "rows")


def test_a_folder_of_somebody_else_is_not_emptied(tree: dict[str, Any]) -> None:
    cfg = config_of_start(parse_config(_trial(tree)))
    run = RunDir.of(cfg.run)
    run.path.mkdir(parents=True)
    run.result.write_text("{}")
    with pytest.raises(ConfigError, match=r"holds something else; choose another `run\.name`") as caught:
        make_folder(cfg)
    assert caught.value.of_this_start
    assert [path.name for path in run.path.iterdir()] == ["result.json"]
    assert run_ranks(1, _main, _trial(tree)) == [2]
    assert [path.name for path in run.path.iterdir()] == ["result.json"]
    run.result.unlink()
    lock = RunLock(run.lock)  # a start of a moment ago, before its mark
    lock.acquire()
    with pytest.raises(TakenError):
        make_folder(cfg)
    lock.release()
    assert make_folder(cfg) == run.path
    assert [path.name for path in run.path.iterdir()] == ["fast_dev_run"]
    remove_folder(run.path)
    assert _left(tree) == []


def test_what_changes(tree: dict[str, Any]) -> None:
    tree = changed(tree, log__wandb={"mode": "online", "project": "p"}, data__max_val_images=7)
    assert config_of_start(cfg := parse_config(tree)) is cfg
    cfg = config_of_start(parse_config(_trial(tree)))
    assert (cfg.run.name, cfg.log.wandb.mode, cfg.data.max_val_images) == ("test.fast_dev_run", "disabled", 7)
    assert config_of_start(parse_config(changed(tree, train__fast_dev_run=1))).data.max_val_images == 5
    assert drill_config(parse_config(_trial(tree)), Path("d")).train.fast_dev_run is False
