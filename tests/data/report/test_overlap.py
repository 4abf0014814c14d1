"""Validation images that are training images too are found by path and by content, and a new run is refused."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dist_train.checkpoint.store import Checkpoints
from dist_train.config import parse_config
from dist_train.config.planning import make_plan
from dist_train.config.rules.resume_keys import arithmetic
from dist_train.data.index import scan
from dist_train.data.report import overlap
from dist_train.data.report.overlap import Overlap, check_overlap, describe, find_overlap
from dist_train.errors import DataError
from dist_train.run.folder import RunDir
from dist_train.training.resume import find_checkpoint
from tests.support.data_roots import data_config, make_fashion_mnist, names
from tests.support.images import make_image_folder
from tests.support.runs import changed, train


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_image_folder(tmp_path / "images")


def copies(root: Path, count: int) -> list[tuple[str, str]]:
    """Copy training images into the validation set under other names."""
    sources = [*sorted((root / "train").rglob("*.png")), *sorted((root / "train").rglob("*.jpg"))][:count]
    pairs = []
    for number, source in enumerate(sources):
        target = root / "val" / "class_a" / f"copy{number:02d}{source.suffix}"
        shutil.copyfile(source, target)
        pairs.append((str(target.relative_to(root)), str(source.relative_to(root))))
    return pairs


def test_copies_are_found_by_content(images: Path) -> None:
    assert find_overlap(scan(data_config(images))).pairs == []
    expected = copies(images, 20)
    found = find_overlap(scan(data_config(images)))
    assert sorted(found.pairs) == sorted(expected)
    assert (found.looked_at, found.total, found.compared) == (43, 43, 1.0)


def test_copies_among_many_files_whose_sizes_nobody_has_asked_for(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dist_train.data.index.ASKED_AT_ONCE", 0)
    expected = copies(images, 20)
    index = scan(data_config(images), sized=False)
    assert not index.has_sizes
    found = find_overlap(index)
    assert sorted(found.pairs) == sorted(expected)
    assert (found.looked_at, found.total, found.compared) == (43, 43, 1.0)
    assert find_overlap(index, seconds=-1).compared == 0
    (images / expected[0][1]).unlink()
    assert sorted(find_overlap(index).pairs) == sorted(expected)[1:]


def test_files_that_begin_alike_and_end_otherwise_are_not_the_same(images: Path) -> None:
    for split, ending in (("train", b"one"), ("val", b"two")):
        (images / split / "class_a" / "large.png").write_bytes(bytes(10_000) + ending)
    assert find_overlap(scan(data_config(images))).pairs == []


def test_a_path_in_both_tables_and_a_link_are_found(images: Path) -> None:
    train, held_out = "train/class_a/000.png", "val/class_a/link.png"
    os.symlink(images / train, images / held_out)
    (images / "train.csv").write_text(f"path,label\n{train},a\ntrain/class_b/004.png,b\n")
    (images / "val.csv").write_text(f"path,label\n./{train},a\n{held_out},a\nval/class_b/004.png,b\n")
    found = find_overlap(scan(data_config(images, format="csv")))
    assert sorted(found.pairs) == [(f"./{train}", train), (held_out, train)]


def test_a_file_that_cannot_be_read_is_like_no_other(images: Path) -> None:
    index = scan(data_config(images))
    copies(images, 3)
    shutil.rmtree(images / "train")
    assert find_overlap(index).pairs == []


def test_data_set_objects_have_no_files_to_compare(tmp_path: Path) -> None:
    index = scan(data_config(make_fashion_mnist(tmp_path), format="torchvision", name="FashionMNIST"))
    assert describe(find_overlap(index)) == ""


def test_of_a_large_set_a_sample_is_compared(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "MOST_IMAGES", 30)
    copies(images, 20)
    index = scan(data_config(images))
    found = find_overlap(index)
    assert (found.looked_at, found.total) == (30, 43)
    assert 0 < len(found.pairs) < 20
    assert {name for name, _ in found.pairs} <= set(names(index.val))
    assert find_overlap(index) == found, "the same sample each time"
    assert f"{len(found.pairs)} of 30 validation images (a sample of 43) are training images too" in describe(found)


def test_without_time_the_rest_is_said(images: Path) -> None:
    copies(images, 20)
    assert describe(find_overlap(scan(data_config(images)), seconds=-1)) == (
        "0 of 43 validation images are training images too; there was time for 0% of the training images"
    )
    assert describe(Overlap([], 3, 3, 1.0)) == ""


def test_a_new_run_is_refused_and_a_started_one_goes_on(
    tree: dict[str, Any], images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = changed(tree, data__root=str(images), train__max_steps=2)
    copies(images, 20)
    with pytest.raises(
        DataError, match=r"20 of 43 validation images are training images too, such as val/class_a/copy00"
    ):
        check_overlap(parse_config(tree), scan(parse_config(tree).data))
    allowed = parse_config(changed(tree, data__max_overlap=0.5))
    assert check_overlap(allowed, scan(allowed.data)).startswith("20 of 43")
    train(changed(tree, data__max_overlap=None))
    cfg = parse_config(tree)
    checkpoints = Checkpoints(RunDir.of(cfg.run).checkpoints, cfg.checkpoint.keep)
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(cfg, checkpoints, scan(cfg.data), arithmetic(cfg), make_plan(cfg, 60, 1))[0] is not None
    with pytest.raises(DataError, match=r"more than `data.max_overlap` \(0.01\) allows"):
        new = parse_config(changed(tree, run__name="new"))
        find_checkpoint(new, Checkpoints(images / "none", 1), scan(new.data), arithmetic(new), make_plan(new, 60, 1))
