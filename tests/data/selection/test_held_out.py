"""Which images validate: folds are disjoint, cover all images, and follow from names and the seed."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.data.formats.base import Entry
from dist_train.data.index import DataIndex, evaluation_index, scan
from dist_train.data.selection.held_out import folds_of, held_out
from dist_train.errors import ConfigError, DataError
from tests.support.runs import changed
from tests.support.tables import tabled

ENTRIES: list[Entry] = [
    (f"{kind}/{number}.png", 1, kind) for kind, images in enumerate((53, 17, 3)) for number in range(images)
]


def names(index: DataIndex, split: str) -> set[str]:
    found = index.train if split == "train" else index.val
    return {found.name(number) for number in range(len(found))}


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_each_class_and_the_whole_set_are_spread_evenly(folds: int) -> None:
    found = folds_of(ENTRIES, {}, folds, seed=0)
    assert found.keys() == {name for name, _, _ in ENTRIES}
    for kind in range(3):
        counts = Counter(found[name] for name, _, target in ENTRIES if target == kind)
        every = [counts[fold] for fold in range(folds)]
        assert max(every) - min(every) <= 1
    sizes = Counter(found.values())
    assert max(sizes.values()) - min(sizes[fold] for fold in range(folds)) <= 1


def test_folds_follow_from_names_and_seed_not_from_the_order() -> None:
    shuffled = random.Random(0).sample(ENTRIES, len(ENTRIES))
    assert folds_of(shuffled, {}, 5, seed=3) == folds_of(ENTRIES, {}, 5, seed=3)
    assert folds_of(ENTRIES, {}, 5, seed=4) != folds_of(ENTRIES, {}, 5, seed=3)


def test_a_group_stays_together_and_classes_stay_spread() -> None:
    entries: list[Entry] = [(f"{number}", 1, number % 4 == 0) for number in range(400)]
    draw = random.Random(1)
    groups = {name: f"patient {int(draw.expovariate(0.02))}" for name, _, _ in entries}
    found = folds_of(entries, groups, 4, seed=0)
    of_group: dict[str, set[int]] = {}
    for name, fold in found.items():
        of_group.setdefault(groups[name], set()).add(fold)
    assert all(len(folds) == 1 for folds in of_group.values())
    for kind in (0, 1):
        counts = Counter(found[name] for name, _, target in entries if target == kind)
        assert max(counts.values()) <= 1.25 * min(counts.values())


def test_a_repeated_image_is_one_image(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, data__fold="1/2")).data
    train, val = held_out(cfg, [*ENTRIES, *ENTRIES[:10]], {})
    assert {name for name, _, _ in train}.isdisjoint(name for name, _, _ in val)
    assert len({name for name, _, _ in val}) == len(val)
    assert len(train) + len(val) > len(ENTRIES)


def _no_val(tree: dict[str, Any], image_folder: Path) -> dict[str, Any]:
    return changed(tree, data__root=str(image_folder / "train"))


def test_the_folds_of_a_folder_cover_it_and_a_run_is_evaluated_on_its_own(
    tree: dict[str, Any], image_folder: Path
) -> None:
    tree = _no_val(tree, image_folder)
    indices = [scan(parse_config(changed(tree, data__fold=f"{fold}/3")).data) for fold in (1, 2, 3)]
    everything = names(indices[0], "train") | names(indices[0], "val")
    held = [names(index, "val") for index in indices]
    assert sum(map(len, held)) == len(everything) == len(set().union(*held))
    assert all(names(index, "train") == everything - names(index, "val") for index in indices)
    again = evaluation_index(parse_config(changed(tree, data__fold="2/3")).data, "val", indices[1].classes)
    assert names(again, "val") == held[1]


def test_groups_of_a_table(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    root = tabled(image_folder, tmp_path / "table", "regression")
    lines = (root / "train.csv").read_text().splitlines()
    grouped = [f"{lines[0]},patient", *(f"{line},p{number // 4}" for number, line in enumerate(lines[1:]))]
    (root / "train.csv").write_text("\n".join(grouped))
    data = {"format": "csv", "root": str(root), "task": "regression", "csv": {"targets": ["red"], "group": "patient"}}
    tree = changed(tree, loss__name="mse", eval__metric="mae") | {"data": data | {"fold": "1/3"}}
    index = scan(parse_config(tree).data)
    patient = {line.split(",")[0]: line.rpartition(",")[2] for line in grouped[1:]}
    assert {patient[name] for name in names(index, "val")}.isdisjoint(patient[name] for name in names(index, "train"))
    many = parse_config(changed(tree, data__fold="1/999")).data
    with pytest.raises(DataError, match=r"999 folds need at least 999 values of `data.csv.group`, and there are"):
        scan(many)
    (root / "train.csv").write_text("\n".join([*grouped, f"{lines[1]},p9"]))
    with pytest.raises(DataError, match="has p9 in the column patient, and an earlier line of the same image has p0"):
        scan(parse_config(tree).data)
    (root / "train.csv").write_text("\n".join([grouped[0], *(f"{line}," for line in lines[1:])]))
    with pytest.raises(DataError, match="line 2 has no value in the column patient; fill it in"):
        scan(parse_config(tree).data)


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b", "1/5/2", "1/99999"])
def test_a_fold_that_does_not_exist(tree: dict[str, Any], fold: str) -> None:
    with pytest.raises(ConfigError, match=r"`data.fold`: '.*' must be NUMBER/FOLDS, such as 2/5"):
        parse_config(changed(tree, data__fold=fold))


def test_a_validation_set_that_is_there_or_two_ways_to_draw_one_are_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(
        DataError, match=r"`data.fold` \(1/3\): .* has a validation set already; remove the key, or the set"
    ):
        scan(parse_config(changed(tree, data__fold="1/3")).data)
    with pytest.raises(ConfigError, match=r"`data.fold` \(1/3\) and `data.val_fraction` \(0.2\) are two ways"):
        parse_config(changed(tree, data__fold="1/3", data__val_fraction=0.2))
