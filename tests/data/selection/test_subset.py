"""A part of the training images: the same share or number of each class, chosen by names and the seed."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.data.formats.base import Entry, Findings
from dist_train.data.index import scan
from dist_train.data.selection.subset import subset
from dist_train.errors import ConfigError
from tests.support.runs import changed

CLASSES = ["many", "some", "one"]
ENTRIES: list[Entry] = [
    (f"{kind}/{number}", 1, kind) for kind, images in enumerate((50, 20, 1)) for number in range(images)
]


def chosen(tree: dict[str, Any], entries: list[Entry] = ENTRIES, **keys: Any) -> tuple[Sequence[Entry], list[str]]:
    findings = Findings()
    cfg = parse_config(changed(tree, **{f"data__{key}": value for key, value in keys.items()})).data
    return subset(cfg, entries, CLASSES, findings), findings.notes


def test_every_class_has_its_share_or_its_number(tree: dict[str, Any]) -> None:
    found, notes = chosen(tree, train_fraction=0.1)
    assert Counter(kind for _, _, kind in found) == {0: 5, 1: 2, 2: 1}
    assert notes == []
    found, notes = chosen(tree, shots=4)
    assert Counter(kind for _, _, kind in found) == {0: 4, 1: 4, 2: 1}
    assert notes == ["classes with fewer than `data.shots` (4) training images, which keep all: one"]
    assert chosen(tree)[0] is ENTRIES


def test_it_follows_from_names_and_seed_and_larger_parts_contain_smaller_ones(tree: dict[str, Any]) -> None:
    small, large = (set(chosen(tree, train_fraction=share)[0]) for share in (0.1, 0.5))
    assert small < large
    assert set(chosen(tree, ENTRIES[::-1], train_fraction=0.1)[0]) == small
    assert set(chosen(tree, train_fraction=0.1, val_seed=1)[0]) != small


def test_lines_that_repeat_an_image_go_with_it(tree: dict[str, Any]) -> None:
    found, _ = chosen(tree, sorted(ENTRIES * 2), shots=3)
    assert Counter(Counter(found).values()) == {2: 7}


def test_the_validation_set_stays_as_it_is(tree: dict[str, Any]) -> None:
    whole, part = scan(parse_config(tree).data), scan(parse_config(changed(tree, data__shots=2)).data)
    assert (part.val.paths == whole.val.paths).all()
    assert len(part.train) == 2 * len(whole.classes) < len(whole.train)
    assert part.fingerprint != whole.fingerprint


def test_what_makes_no_sense_is_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"`data.train_fraction` \(0.5\) and `data.shots` \(4\) are two ways"):
        chosen(tree, train_fraction=0.5, shots=4)
    with pytest.raises(
        ConfigError, match=r"`data.shots` \(4\) counts images of one class each, but `data.task` is multilabel"
    ):
        chosen(tree, shots=4, task="multilabel", format="csv")
