"""Warnings: keys without effect, and lengths that do not fit together; no false alarms."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.config import Config, load_config, parse_config
from dist_train.config.planning import make_plan
from dist_train.config.rules.advice import NEEDS, advise
from dist_train.inference.config_check import check
from tests.support.runs import changed, train


def warned(cfg: Config, images: int = 60) -> list[str]:
    return advise(cfg, make_plan(cfg, images, 1), 3, "cpu")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            {"distributed__strategy": "fsdp"},
            "`distributed.strategy` (fsdp) has no effect in one process, which holds all weights",
        ),
        ({"model__head__hidden": [64]}, "`model.head.hidden` has no effect unless `model.head.name` is mlp"),
        (
            {"augment__crop_scale": [0.5, 1.0]},
            "`augment.crop_scale` has no effect unless `augment.crop` is random_",
        ),
        (
            {"optim__nesterov": True, "optim__name": "AdamW"},
            "`optim.nesterov` has no effect unless `optim.name` is sgd",
        ),
        ({"schedule__milestones": [1.0]}, "`schedule.milestones` has no effect unless `schedule.name` is multistep"),
        (
            {"data__format": "tar", "data__root": "s3://bucket/a"},
            "`data.root` (s3://bucket/a): each image is a request over the network, in every epoch; set `data.stage`",
        ),
        ({"data__csv": {"separator": ";"}}, "`data.csv` has no effect unless `data.format` is csv"),
        (
            {"optim__betas": [0.8, 0.9]},
            "`optim.betas` has no effect unless `optim.name` is adam, adamw or another timm optimizer",
        ),
        (
            {"schedule": {"name": "constant", "min_lr": 0.01}},
            "`schedule.min_lr` has no effect unless `schedule.name` is cosine, linear, poly, wsd, step, multistep, onecyc",
        ),
        (
            {"eval__every_epochs": 2, "eval__every_steps": 5},
            "`eval.every_epochs` has no effect unless `eval.every_steps`",
        ),
        ({"eval__metric": "top5"}, "`eval.metric` (top5) is always 100 with 3 classes; use top1"),
        ({"schedule__warmup_lr": 0.01}, "`schedule.warmup_lr` has no effect unless `schedule.warmup_epochs` is set"),
        ({"schedule__restarts": {"every_epochs": 2.0}}, "the run ends at epoch 2, before the first restart"),
        ({"schedule__power": 2.0}, "`schedule.power` has no effect unless `schedule.name` is poly"),
        ({"train__ema": 0.999}, "`train.ema` (0.999) averages over about 1000 steps, but the run has 10"),
        (
            {"train__max_steps": 100_000},
            "`train.max_steps` (100000) has no effect: `train.epochs` (2) end the run at step 10; ",
        ),
        ({"train__max_steps": 11}, "for 11 steps use train.epochs=3"),
        ({"data__image_size": 10}, "`data.image_size` (10): most models halve an image five times"),
        ({"train__precision": "amp_fp16"}, "`train.precision` (amp_fp16): this machine has no GPU"),
        ({"train__precision": "fp16"}, "`train.precision` (fp16): this machine has no GPU"),
        ({"schedule__warmup_epochs": 2.0}, "all 10 steps of the run are warm-up"),
        ({"schedule__name": "step"}, "the learning rate would first drop at epoch 30, but the run ends at epoch 2"),
        (
            {"schedule__name": "multistep", "schedule__milestones": [2.0]},
            "the learning rate would first drop at epoch 2, but",
        ),
    ],
)
def test_what_has_no_effect_is_warned_of(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    (line,) = warned(parse_config(changed(tree, **override)))
    assert words in line


def test_what_has_an_effect_is_not(tree: dict[str, Any]) -> None:
    assert warned(parse_config(tree)) == []
    assert warned(parse_config(changed(tree, schedule__name="step", schedule__step_epochs=1.0))) == []
    assert warned(parse_config(changed(tree, train__ema=0.5))) == []
    assert warned(parse_config(changed(tree, train__ema=0.999, eval__weights="raw"))) == []
    assert warned(parse_config(changed(tree, train__ema={"decay": 0.999, "warmup": True}))) == []
    spelt_out = parse_config(tree).model_dump(mode="json")
    assert warned(parse_config(spelt_out)) == [], "as --print-config prints it"
    for path in (Path(__file__).parents[3] / "configs").glob("*.yaml"):
        if path.name != "cluster.yaml":
            cfg = load_config(path)
            assert advise(cfg, make_plan(cfg, 1_000_000, 1), 3, "cuda") == [], path


def test_every_key_is_a_key() -> None:
    every = Config.model_json_schema()["$defs"]
    for key in NEEDS:
        section, *_, name = key.split(".")
        assert any(name in each.get("properties", {}) for each in every.values()), key
        assert section in Config.model_fields, key


def test_warnings_appear_in_check_and_in_the_log(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tree = changed(tree, loss__gamma=3.0, train__epochs=1)
    check(parse_config(changed(tree, run__deterministic=False)), 1)
    assert "note: `loss.gamma` has no effect unless" in capsys.readouterr().out
    train(tree)
    assert capsys.readouterr().out.count("`loss.gamma` has no effect unless `loss.name` is focal or binary_focal") == 1
