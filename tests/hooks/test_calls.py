"""Hooks in whole runs: who is called when, who ends a run, and errors."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dist_train
import dist_train.training.attempt
from dist_train.config import parse_config
from dist_train.errors import ConfigError, DistTrainError
from dist_train.hooks.base import Hook, Start
from tests.support.ranks import free_port, run_ranks
from tests.support.runs import changed, fails, folder, rows, state_digest

HERE = __name__


class Diary(Hook):
    """Writes down what it sees."""

    transient = ("lines",)

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, start: Start) -> None:
        self.lines.append(f"start {start.step} of {start.total_steps}")

    def after_step(self, step: int, scalars: Mapping[str, Tensor]) -> None:
        assert all(value.ndim == 0 and not value.requires_grad for value in scalars.values())
        self.lines.append(f"{step}: {', '.join(scalars)}")

    def after_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        self.lines.append(f"{step}: top1 {scores['top1']:.0f}")

    def end(self, status: str) -> None:
        self.lines.append(status)


class Ends(Hook):
    """Ends the run on one rank, once the sum of its losses, which is its state, has the steps for it."""

    def __init__(self, step: int, rank: int = 0) -> None:
        self.step, self.rank, self.total, self.mine = step, rank, torch.zeros(()), -1

    def start(self, start: Start) -> None:
        self.mine = start.rank

    def after_step(self, step: int, scalars: Mapping[str, Tensor]) -> str | None:
        self.total = self.total + scalars["loss"]
        return f"{step} steps" if step == self.step and self.rank == self.mine else None

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total = state["total"]


class Fails(Hook):
    def after_step(self, step: int, scalars: Mapping[str, Tensor]) -> None:
        if step == 2:
            raise KeyError("missing")


class Counts(Hook):
    """Forgets at a resume what it counted."""

    count = 0

    def after_step(self, step: int, scalars: Mapping[str, Tensor]) -> None:
        self.count += 1


def test_who_is_called_when(tree: dict[str, Any]) -> None:
    diary = Diary()
    dist_train.train(parse_config(changed(tree, train__max_steps=2, eval={"every_steps": 2})), hooks=[diary])
    assert diary.lines[:3] == ["start 0 of 2", "1: loss, grad_norm", "2: loss, grad_norm"]
    assert diary.lines[3].startswith("2: top1 ")
    assert diary.lines[4:] == ["done"]


def test_an_error_ends_the_run_with_the_name_of_the_hook(tree: dict[str, Any], capsys: Any) -> None:
    tree = changed(tree, hooks=[f"{HERE}:Fails", f"{HERE}:Diary"])
    said = fails(tree, capsys)
    assert f"`hooks` ({HERE}:Fails) failed in after_step: KeyError: 'missing' (test_calls.py:" in said.replace(
        "\n", " "
    )
    assert "Traceback" in said
    diary = Diary()
    with pytest.raises(DistTrainError, match="failed in after_step"):
        dist_train.train(parse_config(changed(tree, run__name="other")), hooks=[diary])
    assert diary.lines[-1] == "failed"


def test_one_that_forgets_is_refused_after_the_first_step(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"Counts\) changes its attributes count, which no checkpoint holds"):
        dist_train.train(parse_config(changed(tree, hooks=[f"{HERE}:Counts"])))
    assert not list((folder(tree) / "checkpoints").glob("step_*"))


def _ended(tree: dict[str, Any], ports: list[int], killed_after: int) -> list[Any]:
    """Train a run whole, and one that is started again from an early checkpoint."""
    results = []
    for number, (name, port) in enumerate(zip(("straight", "resumed", "resumed"), ports, strict=True)):
        os.environ["MASTER_PORT"] = str(port)
        run = folder(changed(tree, run__name=name))
        if number == 2 and os.environ.get("RANK", "0") == "0":
            for checkpoint in sorted((run / "checkpoints").iterdir()):
                if int(checkpoint.name[5:13]) > killed_after:
                    shutil.rmtree(checkpoint)
        result = dist_train.train(parse_config(changed(tree, run__name=name)))
        results.append((result.status, result.step, result.message))
    return results


@pytest.mark.parametrize(
    ("world_size", "killed_after"),
    [(2, 3), pytest.param(2, 2, marks=pytest.mark.slow), pytest.param(4, 3, marks=pytest.mark.slow)],
)
def test_one_rank_ends_the_run_on_all(tree: dict[str, Any], world_size: int, killed_after: int) -> None:
    """After the third step the last rank asks; the checkpoint of this step knows it, whether all ranks do or not."""
    hooks = [{"name": f"{HERE}:Ends", "options": {"step": 3, "rank": world_size - 1}}]
    tree = changed(tree, hooks=hooks, checkpoint={"every_steps": 1, "keep": 100})
    found = run_ranks(world_size, _ended, tree, [free_port() for _ in range(3)], killed_after)
    assert found == [[("done", 4, f"{HERE}:Ends: 3 steps")] * 3] * world_size
    straight, resumed = (folder(changed(tree, run__name=name)) for name in ("straight", "resumed"))
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)
    assert [row["step"] for row in rows(straight, "val")] == [4], "the last step is evaluated"


def test_on_one_rank_it_ends_at_once(tree: dict[str, Any]) -> None:
    result = dist_train.train(parse_config(changed(tree, checkpoint={"every_steps": 1})), hooks=[Ends(3)])
    assert (result.status, result.step, result.message) == ("done", 3, f"{HERE}:Ends: 3 steps")
    assert Path(f"{result.folder}/last.safetensors").is_file()


def test_the_state_of_one_that_is_gone_is_left_out_with_a_warning(tree: dict[str, Any], capsys: Any) -> None:
    tree = changed(
        tree, train__max_steps=2, schedule__name="constant", hooks=[{"name": f"{HERE}:Ends", "options": {"step": 9}}]
    )
    dist_train.train(parse_config(tree))
    capsys.readouterr()
    dist_train.train(parse_config(changed(tree, train__max_steps=3, hooks=[])))
    assert (
        f"the checkpoint has the state of {HERE}:Ends, which this start does not use"
        in capsys.readouterr().out.replace("\n", " ")
    )
