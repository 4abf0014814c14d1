"""``augment.randaugment`` and ``augment.transforms`` of 0.1.0 are entries of ``augment.ops``."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.config import load_config, parse_config
from dist_train.config.rules.resume_keys import arithmetic, changed_keys
from dist_train.errors import ConfigError
from tests.support.runs import changed

MINE = {"name": "a.b:C", "options": {"x": 1}}
RANDAUGMENT = {
    "name": "randaugment",
    "p": 1.0,
    "options": {"num_ops": 2, "magnitude": 5, "interpolation": "nearest", "fill": (0, 0, 0)},
}


def ops(tree: dict[str, Any], **keys: Any) -> list[dict[str, Any]]:
    return [op.model_dump() for op in parse_config(changed(tree, **keys)).augment.ops]


def test_they_come_in_the_order_of_then(tree: dict[str, Any]) -> None:
    found = ops(tree, augment__transforms=[MINE], augment__randaugment={"magnitude": 5})
    assert found == [RANDAUGMENT, {"p": None, **MINE}]
    assert ops(tree, augment__randaugment=None, augment__transforms=[]) == []


def test_an_override_changes_the_entry(tree: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(changed(tree, augment__ops=["vflip", "randaugment", "a.b:C"])))

    def names(override: str) -> list[str]:
        return [op.name for op in load_config(path, [override]).augment.ops]

    (_, changed_one, _) = load_config(path, ["augment.randaugment.magnitude=5"]).augment.ops
    assert changed_one.model_dump() == RANDAUGMENT
    assert names("augment.randaugment=null") == ["vflip", "a.b:C"]
    assert names("augment.transforms=[{name: d.e:F}]") == ["vflip", "randaugment", "d.e:F"]
    assert names("augment.ops=[rand-m9]") == ["timm"]
    path.write_text(yaml.safe_dump(changed(tree, augment__ops=["vflip"])))
    assert names("augment.randaugment.magnitude=5") == ["randaugment", "vflip"]


def test_a_checkpoint_of_0_1_0_is_compared_as_ops(tree: dict[str, Any]) -> None:
    now = arithmetic(parse_config(changed(tree, augment__ops=["randaugment", MINE])))
    old = {"num_ops": 2, "magnitude": 9, "interpolation": "nearest", "fill": [0, 0, 0]}
    rest = {key: value for key, value in now.items() if key != "augment.ops"}
    assert not changed_keys(rest | {"augment.randaugment": old, "augment.transforms": [MINE]}, now)
    assert list(changed_keys(rest | {"augment.randaugment": None}, now)) == ["augment.ops"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"augment__randaugment": True}, "`augment.randaugment` (True) must be a section, such as {num_ops: 2"),
        ({"augment__randaugment": {"magnitud": 3}}, "`magnitud` is not a key: did you mean `magnitude`?"),
        ({"augment__transforms": 3}, "`augment.ops`: 3 must be the name of an operation"),
        ({"augment__ops": 3, "augment__randaugment": {}}, "`augment.ops` (3) must be a list"),
    ],
)
def test_wrong_ones_are_refused(tree: dict[str, Any], keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        ops(tree, **keys)
    assert words in str(error.value)
