"""The score of a cross-validation: each image once, judged by the run that did not train on it."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.config.sections.data import DataConfig
from dist_train.errors import ConfigError
from dist_train.evaluate import main
from dist_train.evaluation.out_of_fold import are_folds, name_of
from dist_train.system.files import read_json
from tests.support.commands import call
from tests.support.runs import changed, train


def configs(tree: dict[str, Any], *folds: str | None, **keys: Any) -> list[DataConfig]:
    return [parse_config(changed(tree, data__fold=fold, **keys)).data for fold in folds]


def test_each_image_is_judged_by_the_run_that_did_not_train_on_it(
    tree: dict[str, Any], image_folder: Path, tmp_path: Path
) -> None:
    tree = changed(tree, data__root=str(image_folder / "train"), train__max_steps=3, eval__metrics=["map"])
    runs = [train(tree, run__name=f"fold{fold}", data__fold=f"{fold}/3") for fold in (1, 2, 3)]
    document = tmp_path / "scores.json"
    code, out, err = call(main, *runs, "--json", document)
    assert code == 0, err
    assert "out of fold, all 3 folds: loss " in out
    *each, together = read_json(document)
    images = [sum(row["images"] for row in fold["classes"]) for fold in each]
    assert sum(row["images"] for row in together["classes"]) == sum(images)
    for metric in ("loss", "top1"):
        mean = sum(fold[metric] * count for fold, count in zip(each, images, strict=True)) / sum(images)
        assert together[metric] == pytest.approx(mean, rel=1e-5)
    code, out, _ = call(main, runs[0], runs[2])
    assert code == 0
    assert "out of fold, folds 1, 3 of 3: loss " in out


def test_runs_of_one_fold_are_an_ensemble(tree: dict[str, Any]) -> None:
    assert not are_folds(configs(tree, None, None))
    assert not are_folds(configs(tree, "1/2", "1/2"))
    assert are_folds(configs(tree, "1/2", "2/2"))
    assert name_of(configs(tree, "4/4", "2/4")) == "out of fold, folds 2, 4 of 4"


@pytest.mark.parametrize(
    ("folds", "listed"),
    [(("1/3", "2/3", "1/3"), "1/3, 2/3, 1/3"), (("1/3", "2/4"), "1/3, 2/4"), (("1/3", None), "1/3, None")],
)
def test_runs_that_are_not_the_folds_of_one_split_are_refused(
    tree: dict[str, Any], folds: tuple[str | None, ...], listed: str
) -> None:
    with pytest.raises(ConfigError, match=f"`data.fold` of the runs is {listed}: an out-of-fold score needs each fold"):
        are_folds(configs(tree, *folds))


def test_folds_of_another_seed_are_refused(tree: dict[str, Any]) -> None:
    others = [*configs(tree, "1/2"), *configs(tree, "2/2", data__val_seed=1)]
    with pytest.raises(ConfigError, match=r"`data.val_seed` differs between the runs, so they are not folds"):
        are_folds(others)
    assert are_folds([*configs(tree, "1/2"), *configs(tree, "2/2", data__workers=3)])
