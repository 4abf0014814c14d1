"""``checkpoint.keep_best``: which weights are kept, and when a file goes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from dist_train.training.parts.kept_weights import Kept, KeptWeights, among_the_best, weights_path
from tests.support.runs import changed, rows, state_digest, train


def evaluated(*scores: tuple[float, float], wanted: dict[str, int]) -> tuple[Kept, list[list[str]]]:
    """Evaluations with these pairs of top1 and loss, at steps 1, 2, ..."""
    kept: Kept = {}
    among = []
    for step, (top1, loss) in enumerate(scores, 1):
        kept, metrics = among_the_best(kept, step, {"top1": top1, "loss": loss}, wanted)
        among.append(metrics)
    return kept, among


def steps(kept: Kept, metric: str) -> list[float]:
    return [row["step"] for row in kept[metric]]


def test_the_best_by_each_metric() -> None:
    scores = ((50, 2.0), (70, 1.5), (60, 1.0), (70, 1.2), (40, 3.0))
    kept, among = evaluated(*scores, wanted={"top1": 2, "loss": 1})
    assert steps(kept, "top1") == [4, 2], "of equal ones the lower loss is better"
    assert steps(kept, "loss") == [3]
    assert among == [["loss", "top1"], ["loss", "top1"], ["loss", "top1"], ["top1"], []]


def test_of_equal_evaluations_the_earlier_stays() -> None:
    kept, _ = evaluated((50, 1.0), (50, 1.0), (50, 1.0), wanted={"top1": 2})
    assert steps(kept, "top1") == [1, 2]


def test_nan_is_worse_than_every_number() -> None:
    kept, _ = evaluated((float("nan"), 1.0), (10, 1.0), (float("nan"), 0.5), wanted={"top1": 2})
    assert steps(kept, "top1") == [2, 3]


def test_fewer_and_other_metrics_later() -> None:
    kept, _ = evaluated((50, 1.0), (60, 2.0), wanted={"top1": 2})
    kept, among = among_the_best(kept, 3, {"top1": 55, "loss": 0.5}, {"top1": 1, "loss": 1})
    assert among == ["loss"]
    assert (steps(kept, "top1"), steps(kept, "loss")) == ([2], [3])


def test_a_file_goes_when_the_next_checkpoint_is_on_disk(tmp_path: Path) -> None:
    run = RunDir(tmp_path)

    def kept(*numbers: int) -> dict[str, list[dict[str, float]]]:
        return {"top1": [{"step": number} for number in numbers]}

    def files() -> list[int]:
        return sorted(int(path.stem[-8:]) for path in tmp_path.glob("best-top1-*"))

    others = [run.best, weights_path(run, "loss", 1)]
    for path in (*others, *(weights_path(run, "top1", step) for step in (1, 2, 3))):
        path.touch()
    weights = KeptWeights(run, ["top1"], kept(1, 2))
    weights.saving(kept(1, 3))
    assert files() == [1, 2, 3], "after a power loss the run may resume from the checkpoint that names 2"
    weights.saving(kept(1, 3))
    assert files() == [1, 3]
    weights.saving(kept(3))
    weights.saved()
    assert files() == [3]
    assert all(path.exists() for path in others), "files of other metrics are not touched"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"auroc": 1}, "`checkpoint.keep_best` (auroc) is not a metric of the evaluation; add it to `eval.metrics`"),
        ({"rmse": 1}, "`checkpoint.keep_best` (rmse) is not a metric of the evaluation"),
        ({"top1": 0}, "checkpoint.keep_best"),
        ({"accuracy": 1}, "checkpoint.keep_best"),
        (3, "checkpoint.keep_best"),
    ],
)
def test_wrong_values_are_refused(tree: dict[str, Any], value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, checkpoint__keep_best=value))
    assert message in str(error.value)
    assert parse_config(changed(tree, checkpoint__keep_best={"auroc": 1}, eval__metrics=["auroc"]))


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_resumed_run_keeps_the_files_of_the_undisturbed_one(tree: dict[str, Any], world_size: int) -> None:
    tree = changed(
        tree, eval__every_steps=1, checkpoint={"every_steps": 3, "keep": 100, "keep_best": {"loss": 2, "macro_f1": 1}}
    )
    straight = train(tree, world_size, run__name="straight")
    resumed = train(tree, world_size, run__name="resumed")
    for checkpoint in (resumed / "checkpoints").iterdir():
        if int(checkpoint.name[5:13]) > 4:
            shutil.rmtree(checkpoint)
    train(tree, world_size, run__name="resumed")
    assert state_digest(resumed) == state_digest(straight)
    assert contents(resumed) == contents(straight)
    best = sorted(rows(straight, "val"), key=lambda row: row["loss"])[:2]
    assert {path.name for path in straight.glob("best-loss-*")} == {
        f"best-loss-step_{row['step']:08d}.safetensors" for row in best
    }
    assert len(list(straight.glob("best-macro_f1-*"))) == 1


def contents(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.glob("best*.safetensors")}


def test_the_order_of_the_metrics_in_the_yaml_does_not_matter() -> None:
    one, other = (evaluated((50, 1.0), wanted=wanted)[0] for wanted in ({"top1": 1, "loss": 1}, {"loss": 1, "top1": 1}))
    assert list(one) == list(other)
