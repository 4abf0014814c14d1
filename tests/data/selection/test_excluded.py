"""``data.exclude``: images that a table names."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.data.index import DataIndex, evaluation_index, scan
from dist_train.data.stored.reuse import kept_or_scanned
from dist_train.errors import ConfigError
from tests.support.runs import changed


def scanned(tree: dict[str, Any], table: Path) -> DataIndex:
    return scan(parse_config(changed(tree, data__exclude=str(table))).data)


def names(index: DataIndex) -> set[str]:
    return {split.name(number) for split in (index.train, index.val) for number in range(len(split))}


def test_the_named_images_are_in_neither_split(tree: dict[str, Any], tmp_path: Path) -> None:
    before = scan(parse_config(tree).data)
    gone = {before.train.name(3), before.train.name(7), before.val.name(0)}
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["finding,image", *(f"blank,{name}" for name in sorted(gone)), "blank,none.png"]))
    index = scanned(tree, table)
    assert names(before) - names(index) == gone
    assert index.fingerprint != before.fingerprint
    assert f"`data.exclude` ({table}) leaves out 3 images" in index.notes
    assert f"1 names in `data.exclude` ({table}) are not in the data: none.png" in index.notes
    cfg = parse_config(changed(tree, data__exclude=str(table))).data
    assert len(evaluation_index(cfg, "val", index.classes).val) == 22


def test_rows_with_no_stay_and_so_do_rows_without_an_image(tree: dict[str, Any], tmp_path: Path) -> None:
    before = scan(parse_config(tree).data)
    table = tmp_path / "t.csv"
    table.write_text(f"image,exclude\n{before.train.name(0)},no\n,yes\n{before.train.name(1)}, Yes\n")
    assert names(before) - names(scanned(tree, table)) == {before.train.name(1)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read: No such file"),
        ("file\na.png\n", "has no column `image`"),
        ("", "has no column `image`"),
        ("image,exclude\na.png,perhaps\n", "line 2: `exclude` is 'perhaps'; use one of: yes, no"),
    ],
)
def test_wrong_tables_are_refused(tree: dict[str, Any], tmp_path: Path, text: str | None, words: str) -> None:
    table = tmp_path / "t.csv"
    if text is not None:
        table.write_text(text)
    with pytest.raises(ConfigError, match=r"`data\.exclude`") as error:
        scanned(tree, table)
    assert words in str(error.value)


def test_a_kept_scan_notices_another_table(tree: dict[str, Any], tmp_path: Path) -> None:
    before = scan(parse_config(tree).data)
    table = tmp_path / "t.csv"
    cfg = parse_config(changed(tree, data__exclude=str(table))).data
    for count in (1, 2):
        table.write_text("\n".join(["image", *(before.train.name(number) for number in range(count))]))
        assert len(kept_or_scanned(cfg, tmp_path / "scan.bin").train) == 60 - count
