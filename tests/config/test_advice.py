"""What is allowed and hardly meant is told, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.config import Config, load_config, parse_config
from dist_train.config.advice import IDLE, doubts
from dist_train.config.plan import make_plan
from dist_train.inference.preflight import check
from tests.support.runs import changed, train


def told(cfg: Config, images: int = 60) -> list[str]:
    return doubts(cfg, make_plan(cfg, images, 1), 3)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"model__head__hidden": [64]}, "`model.head.hidden` does nothing here: it needs `model.head.name` mlp"),
        (
            {"augment__crop_scale": [0.5, 1.0]},
            "`augment.crop_scale` does nothing here: it needs `augment.crop` random_",
        ),
        ({"optim__nesterov": True, "optim__name": "AdamW"}, "`optim.nesterov` does nothing here"),
        ({"schedule__milestones": [1.0]}, "`schedule.milestones` does nothing here"),
        ({"data__csv": {"separator": ";"}}, "`data.csv` does nothing here: it needs `data.format` csv"),
        ({"eval__metric": "top5"}, "`eval.metric` (top5) is always 100 with 3 classes; use top1"),
        ({"train__ema": 0.999}, "`train.ema` (0.999) averages over about 1000 steps, and the run has 10"),
        ({"schedule__warmup_epochs": 2.0}, "all 10 steps of the run are warm-up"),
        ({"schedule__name": "step"}, "the first step would be at epoch 30, and the run ends at 2"),
        ({"schedule__name": "multistep", "schedule__milestones": [2.0]}, "the first step would be at epoch 2, and"),
    ],
)
def test_what_does_nothing_is_told(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    (line,) = told(parse_config(changed(tree, **override)))
    assert words in line


def test_what_does_something_is_not(tree: dict[str, Any]) -> None:
    assert told(parse_config(tree)) == []
    assert told(parse_config(changed(tree, schedule__name="step", schedule__step_epochs=1.0))) == []
    assert told(parse_config(changed(tree, train__ema=0.5))) == []
    assert told(parse_config(changed(tree, train__ema=0.999, eval__weights="raw"))) == []
    spelt_out = parse_config(tree).model_dump(mode="json")
    assert told(parse_config(spelt_out)) == [], "as --print-config prints it"
    for path in (Path(__file__).parents[2] / "configs").glob("*.yaml"):
        if path.name != "cluster.yaml":
            assert told(load_config(path), 1_000_000) == [], path


def test_every_key_is_a_key() -> None:
    every = Config.model_json_schema()["$defs"]
    for key in IDLE:
        section, *_, name = key.split(".")
        assert any(name in each.get("properties", {}) for each in every.values()), key
        assert section in Config.model_fields, key


def test_doubts_are_told_by_check_and_in_the_log(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tree = changed(tree, loss__gamma=3.0, train__epochs=1)
    check(parse_config(changed(tree, run__deterministic=False)), 1)
    assert "note: `loss.gamma` does nothing here" in capsys.readouterr().out
    train(tree)
    assert capsys.readouterr().out.count("`loss.gamma` does nothing here: it needs `loss.name` focal") == 1
