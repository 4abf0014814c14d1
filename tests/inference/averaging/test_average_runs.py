"""``python -m dist_train average``: a run folder that evaluates, predicts and exports."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.evaluation.metrics import Evaluation
from dist_train.export import main as export
from dist_train.inference.averaging import average_runs as averages
from dist_train.inference.averaging.average_runs import Judge, greedy_soup, uniform_soup
from dist_train.inference.averaging.command import main
from dist_train.inference.averaging.members import Member
from dist_train.inference.load_run import load_run
from dist_train.model.weights import load_weights
from tests.support.commands import call
from tests.support.runs import changed, train


@pytest.fixture
def resnet(tree: dict[str, Any]) -> dict[str, Any]:
    return changed(tree, model={"name": "test_resnet", "pretrained": False, "head": {"init": "timm"}}, train__epochs=1)


def test_a_uniform_average_evaluates_predicts_and_exports(resnet: dict[str, Any]) -> None:
    runs = [train(resnet, run__name=f"run{lr}", optim={"lr": lr, "name": "adamw"}) for lr in (1e-3, 2e-3)]
    code, out, _ = call(main, *runs, "--name", "soup")
    assert code == 0, out
    new = runs[0].with_name("soup")
    assert "average of 2 of 2: top1 " in out
    weights, parts = load_weights(new / "best.safetensors"), [load_weights(run / "best.safetensors") for run in runs]
    assert torch.allclose(weights["fc.weight"], (parts[0]["fc.weight"] + parts[1]["fc.weight"]) / 2)
    norm = next(name for name in weights if name.endswith("running_mean"))
    assert not torch.allclose(weights[norm], (parts[0][norm] + parts[1][norm]) / 2), "recomputed"
    run = load_run(new)
    scores = json.loads((new / "result.json").read_text())["best"]
    assert run.evaluate() == {name: value for name, value in scores.items() if name != "step"}
    assert len(run.predict(Path(resnet["data"]["root"]) / "val")) == 23
    code, _, err = call(export, new)
    assert code == 0, err
    exported = load_weights(new / "export" / "model.safetensors")
    assert torch.equal(exported["fc.weight"], weights["fc.weight"])
    origin = json.loads((new / "provenance.json").read_text())["average"]
    assert [member["file"] for member in origin["members"]] == [str(path / "best.safetensors") for path in runs]
    assert not [path for path in new.parent.iterdir() if path.name.startswith(".")]
    code, _, err = call(main, *runs, "--name", "soup")
    assert (code, f"{new} exists; choose another name" in " ".join(err.split())) == (2, True)


def test_the_checkpoints_of_one_run(tree: dict[str, Any]) -> None:
    run = train(tree, train__epochs=1, train__ema=0.5, checkpoint={"every_steps": 1, "keep": 3})
    code, out, err = call(main, run, "--name", "swa", "--last", "2")
    assert code == 0, err
    assert "average of 2 of 2" in out
    assert load_run(run.with_name("swa")).evaluate()["top1"] >= 0


class Scores(Judge):
    """A judge of single numbers: the model is as good as the function says."""

    def __init__(self, score: Callable[[float], float], metric: str) -> None:
        self._score, self.metric, self.seen = score, metric, list[float]()

    def of_member(self, member: Member) -> Evaluation:
        return self._found(float(member.weights()["w"]))

    def of_mean(self, mean: Any) -> Evaluation:
        return self._found(float(mean.state_dict()["w"]))

    def _found(self, value: float) -> Evaluation:
        self.seen.append(value)
        return Evaluation("classification", {self.metric: self._score(value)}, *[None] * 4)  # type: ignore[arg-type]


class Number(Member):
    def weights(self) -> dict[str, Any]:
        return {"w": torch.tensor(float(self.name))}


def numbers(*values: float) -> list[Member]:
    return [Number(str(value), Path(), "") for value in values]


@pytest.mark.parametrize("metric", ["top1", "loss"])
def test_a_greedy_one_keeps_what_does_not_harm(metric: str) -> None:
    sign = 1 if metric == "top1" else -1
    judge = Scores(lambda w: -sign * abs(w - 3), metric)
    mean, kept, outcome = greedy_soup(judge, numbers(9.0, 2.0, 1.0, 4.5))
    assert [member.name for member in kept] == ["2.0", "4.5"]
    assert float(mean.state_dict()["w"]) == 3.25
    assert outcome.scores[metric] == -sign * 0.25
    assert judge.seen == [9.0, 2.0, 1.0, 4.5, 3.25, 2.5, pytest.approx(15.5 / 3), 3.25]


def test_a_uniform_one_takes_all() -> None:
    mean, kept, _ = uniform_soup(Scores(lambda w: w, "top1"), numbers(1.0, 2.0, 6.0))
    assert (float(mean.state_dict()["w"]), len(kept)) == (3.0, 3)


def test_nothing_is_left_where_writing_fails(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(tree, train__epochs=1, checkpoint={"every_steps": 1, "keep": 3})

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(averages, "pack_outcome", full)
    with pytest.raises(OSError, match="the disk is full"):
        averages.average_runs([run], "new", greedy=False, last=None, overrides=(), trust=False)
    assert {path.name for path in run.parent.iterdir()} == {run.name}
