"""Values that are wrong together are refused at every start, or only when a run begins."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.config.rules.refusals import refused_at_the_beginning
from dist_train.errors import ConfigError
from dist_train.training import attempt
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, train

NUMBERS = {"data__format": "csv", "data__task": "regression", "loss__name": "mse", "eval__metric": "r2"}
SETS = {"data__format": "csv", "data__task": "multilabel", "loss__name": "bce", "eval__metric": "map"}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            NUMBERS | {"eval__metric": "top1"},
            "`eval.metric` (top1) is not available for regression; use one of: loss, mae, rmse, r2",
        ),
        (
            SETS | {"loss__name": "focal"},
            "`loss.name` (focal) is not available for multilabel; use one of: bce, binary_focal, asymmetric, soft_f1, "
            "package.module:Class",
        ),
        (
            SETS | {"data__format": "imagefolder"},
            "`data.format` (imagefolder) is not available for multilabel; use one of: csv, package.module:callable",
        ),
        (
            {"run__resume": "must", "train__fast_dev_run": True},
            "`run.resume` (must) continues a run, but `train.fast_dev_run` begins one of its own and removes it; add "
            "run.resume=auto",
        ),
        (NUMBERS | {"augment__mixup": 0.5}, "`augment.mixup` mixes images and their labels"),
        (
            {"data__fast_decode": True, "augment__crop": "random"},
            "`data.fast_decode` (true) has no effect unless augment.crop=random_resized; remove one of the two",
        ),
        (
            {
                "loss__name": "mse",
                "loss__label_smoothing": 0.1,
                **{k: v for k, v in NUMBERS.items() if k != "loss__name"},
            },
            "`loss.label_smoothing` has no effect unless `loss.name` is cross_entropy, focal, bce or binary_focal; remove it",
        ),
        ({"loss__name": "soft_f1", "loss__class_weights": {"a": 2.0}}, "`loss.class_weights` has no effect unless"),
        (
            {"loss__options": {"x": 1}},
            "`loss.options` has no effect unless `loss.name` is bce, asymmetric or package.module:Class",
        ),
        (SETS | {"loss__label_smoothing": 0.1}, "`loss.label_smoothing` (0.1) is for one class per image"),
        (
            {"loss__name": "focal", "loss__logit_adjustment": 1.0},
            "`loss.logit_adjustment` has no effect unless `loss.name` is",
        ),
        (
            {"loss": {"logit_adjustment": 1.0, "class_balance": "balanced"}},
            "`loss.logit_adjustment` (1) and `loss.class_balance` both correct for rare classes",
        ),
        (
            {"loss__logit_adjustment": 0.5, "data__sampling": "sqrt"},
            "`loss.logit_adjustment` (0.5) and `data.sampling` both correct for rare classes",
        ),
        (
            {"loss__logit_adjustment": 1.0, "loss__objective": "my.parts:Mine"},
            "`loss.logit_adjustment` (1) has no part in `loss.objective` (my.parts:Mine); remove it",
        ),
        (
            SETS | {"loss__name": "soft_f1", "data__csv": {"weight": "w"}},
            "`data.csv.weight` (w) multiplies the loss of each sample, but `loss.name` (soft_f1) is not one of bce, ",
        ),
        (
            {"data__format": "csv", "data__csv": {"weight": "w"}, "augment__cutmix": 1.0},
            "but `augment.cutmix` makes one image of two, with two weights; remove one of the two",
        ),
        (
            {"data__format": "csv", "data__csv": {"weight": "w"}, "loss__objective": "my.parts:Mine"},
            "but `loss.objective` (my.parts:Mine) computes its own loss",
        ),
        (
            {"data__format": "csv", "data__csv": {"weight": "w"}, "loss__distill": {"teacher": "resnet18"}},
            "but `loss.distill` adds the loss of a teacher, which has no weights",
        ),
    ],
)
def test_a_start_with_it_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)


def test_options_of_a_loss_of_your_own_are_its_own(tree: dict[str, Any]) -> None:
    parse_config(changed(tree, loss={"name": "mine.losses:Own", "options": {"x": 1}}))


MIXED_F1 = {"loss__name": "soft_f1", "augment__cutmix": 1.0}


def test_a_new_rule_refuses_a_run_that_begins(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    cfg = parse_config(changed(tree, **MIXED_F1))
    (line,) = refused_at_the_beginning(cfg)
    assert line.startswith("`augment.cutmix` (1): `loss.name` soft_f1 cannot count mixed classes")
    assert line.endswith("(a rule since version 0.2.0)")
    assert run_ranks(1, attempt.main, cfg) == [2]
    assert line in capsys.readouterr().out


def test_a_new_rule_only_warns_where_a_run_goes_on(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tree = changed(tree, **MIXED_F1, schedule__name="constant")
    assert run_ranks(1, _train_as_before_the_rules, changed(tree, train__epochs=1)) == [0]
    capsys.readouterr()
    train(tree)
    assert capsys.readouterr().out.count("(a rule since version 0.2.0); the run started before this rule") == 1
    assert (folder(tree) / "last.safetensors").exists()


def _train_as_before_the_rules(tree: dict[str, Any]) -> int:
    from dist_train.config.rules import refusals

    refusals.WHEN_A_RUN_BEGINS = ()
    return attempt.main(parse_config(tree))
