"""An entry of ``augment.ops`` in all its forms, and what is refused."""

from typing import Any

import pytest

from dist_train.config import dump_config, load_config, parse_config
from dist_train.config.ops.table import OPS
from dist_train.errors import ConfigError
from tests.support.ops import entry
from tests.support.runs import changed


def found(tree: dict[str, Any], *entries: Any) -> list[dict[str, Any]]:
    return [op.model_dump() for op in parse_config(changed(tree, augment__ops=list(entries))).augment.ops]


def test_three_ways_to_write_an_operation(tree: dict[str, Any]) -> None:
    (short, inline, nested) = found(
        tree,
        "vflip",
        {"name": "rotation", "degrees": 15, "p": 0.25},
        {"name": "rotation", "p": 0.25, "options": {"degrees": [-15, 15]}},
    )
    assert short == {"name": "vflip", "p": 0.5, "options": {}}
    assert inline == nested
    assert inline["p"] == 0.25


def test_a_policy_by_its_string(tree: dict[str, Any]) -> None:
    one, two, three = found(
        tree, "rand-m9-mstd0.5-inc1", {"name": "timm", "policy": "rand-m9-mstd0.5-inc1"}, {"name": "3a", "p": 0.5}
    )
    assert (
        one == two == {"name": "timm", "p": 1.0, "options": {"policy": "rand-m9-mstd0.5-inc1", "interpolation": None}}
    )
    assert (three["options"]["policy"], three["p"]) == ("3a", 0.5)
    (ours,) = found(tree, "augmix")
    assert ours["name"] == "augmix", "without further parts it is torchvision's"


def test_a_class_keeps_its_options_and_has_no_p_of_ours(tree: dict[str, Any]) -> None:
    assert found(tree, "a.b:C", {"name": "a.b:C", "x": [1], "p": 0.5}) == [
        {"name": "a.b:C", "p": None, "options": {}},
        {"name": "a.b:C", "p": 0.5, "options": {"x": (1,)}},
    ]


def test_what_is_written_is_read_again(tree: dict[str, Any], tmp_path: Any) -> None:
    cfg = parse_config(changed(tree, augment__ops=[entry(name) for name in OPS.rows]))
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    assert load_config(tmp_path / "config.yaml") == cfg


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("vflp", "`augment.ops.0.name` ('vflp') must be one of vflip, rotation,"),
        ("vflp", "did you mean vflip?"),
        (3, "`augment.ops.0`: 3 must be the name of an operation, or a section with `name`"),
        ([["vflip"]], "must be the name of an operation"),
        ({"p": 1}, "`augment.ops.0.name` is missing"),
        ({"name": 3}, "`augment.ops.0.name` (3) must be a valid string"),
        ({"name": "vflip", "p": 2}, "`augment.ops.0.p` (2) must be less than or equal to 1"),
        ({"name": "vflip", "options": 3}, "`augment.ops.0.options` (3) must be a section of names and values"),
        ({"name": "vflip", "degrees": 3}, "`augment.ops.0`: vflip: `degrees` is not a key"),
        ({"name": "rotation"}, "`augment.ops.0`: rotation: `degrees` is missing"),
        ({"name": "rotation", "degres": 3}, "`degres` is not a key: did you mean `degrees`?"),
        ({"name": "rotation", "degrees": 3, "options": {"degrees": 3}}, "`augment.ops.0`: `degrees` is given twice"),
        ("color_jitter", "`augment.ops.0`: color_jitter: give at least one of brightness, contrast,"),
        ("rand-m9-foo", "`augment.ops.0`: timm: `policy`: 'rand-m9-foo': 'foo' is not a part of a rand policy"),
        ({"name": "rand-m9", "policy": "3a"}, "`augment.ops.0`: `policy` is given twice"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], wrong: Any, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        found(tree, wrong)
    assert words in str(error.value)


def test_the_randaugments_of_a_list(tree: dict[str, Any]) -> None:
    listed = parse_config(
        changed(tree, augment__ops=[{"name": "randaugment", "num_ops": 3}, "vflip", {"name": "randaugment", "p": 0.5}])
    ).augment
    assert [(options.num_ops, p) for options, p in listed.randaugments()] == [(3, 1.0), (2, 0.5)]
