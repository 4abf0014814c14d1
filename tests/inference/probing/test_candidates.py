"""Which models the words of ``--models`` name."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from dist_train.inference.probing.candidates import candidates
from tests.support.runs import changed


def test_each_is_the_start_of_a_run_and_nothing_is_frozen(tree: dict[str, Any]) -> None:
    tree = changed(
        tree, model={"name": "resnet18", "weights": "w.pth", "options": {"global_pool": "max"}, "freeze": "backbone"}
    )
    cfg = parse_config(tree)
    own, other, file, foreign, code = candidates(
        cfg, "resnet18, vit_tiny_patch16_224,a=x/b.pth,torchvision:resnet18,my.models:Net"
    )
    assert [each.name for each in (own, file)] == ["resnet18", "a=x/b.pth"]
    assert [each.short for each in (own, file)] == ["resnet18", "a=b.pth"]
    assert (own.cfg.model.weights, own.cfg.model.options) == ("w.pth", {"global_pool": "max"})
    assert (other.cfg.model.weights, other.cfg.model.options, other.weights) == (None, {}, "published")
    assert (file.cfg.model.name, file.cfg.model.weights, file.weights) == ("a", "x/b.pth", "x/b.pth")
    assert (foreign.cfg.model.source, foreign.cfg.model.name, foreign.cfg.model.weights) == (
        "torchvision",
        "resnet18",
        None,
    )
    assert (code.cfg.model.source, code.cfg.model.name) == ("timm", "my.models:Net")
    assert {each.cfg.model.freeze for each in (own, other, file, foreign)} == {"none"}
    assert own.cfg.data == cfg.data
    (alone,) = candidates(cfg, None)
    assert alone.cfg.model == own.cfg.model


def test_random_weights_are_named(tree: dict[str, Any]) -> None:
    assert candidates(parse_config(tree), "test_vit")[0].weights == "random"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("a,,b", "empty name"),
        ("", "empty name"),
        ("a,b,a", "names a twice"),
        ("a,timm:a", "names timm:a twice"),
        ("a=w.pth,b,timm:a=w.pth", "names timm:a=w.pth twice"),
        ("=w.pth", "has no name"),
        ("timm:", "has no name"),
    ],
)
def test_wrong_words_are_refused(tree: dict[str, Any], words: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        candidates(parse_config(tree), words)
