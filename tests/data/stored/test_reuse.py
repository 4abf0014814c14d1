"""A start that finds nothing changed does not scan again; one that finds a change does."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dist_train.data.index import scan
from dist_train.data.stored import reuse
from dist_train.data.stored.reuse import kept_or_scanned
from dist_train.data.stored.scan_file import read_scan
from dist_train.errors import DistTrainError
from tests.support.archives import files_below, tar_of, zip_of
from tests.support.data_roots import data_config, make_fashion_mnist, picture
from tests.support.ranks import free_port
from tests.support.runs import changed
from tests.support.slow_disk import SlowDisk, environment_of_rank, slow_disk

SLOW_START = """
import json, sys, time
from pathlib import Path
from dist_train.config import load_config
from dist_train.data.stored.reuse import read_index
from dist_train.distributed.group import joined
from dist_train.system.terminal import log_to_console

cfg = load_config(sys.argv[1])
with joined(cfg.distributed) as group:
    log_to_console(1)
    began = time.monotonic()
    index = read_index(cfg.data, group, kept=Path(sys.argv[2]))
    took_s = time.monotonic() - began
    print(json.dumps([took_s, group.rank, len(index.train), len(index.val), index.fingerprint]))
"""


@pytest.fixture
def images(image_folder: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(image_folder, tmp_path / "images"))
    _make_old(root)
    return root


def _make_old(root: Path) -> None:
    """Set all times of a data set, which tests have just written, to a minute ago."""
    for path in [root, *root.rglob("*")]:
        then = path.stat().st_mtime_ns - 60 * 10**9
        os.utime(path, ns=(then, then))


def _two_ranks(config: Path, kept: Path, disk: SlowDisk) -> list[Any]:
    """What two real ranks find, in processes for which the data set lies on a slow disk."""
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SLOW_START, config, kept],
            env=environment_of_rank(rank, 2, port) | disk.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    return [json.loads(output.splitlines()[-1]) for output in outputs]


@pytest.mark.slow
def test_a_scan_longer_than_the_timeout_on_a_slow_disk(tree: dict[str, Any], images: Path, tmp_path: Path) -> None:
    disk = slow_disk(tmp_path, images, call_s=0.1)
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(changed(tree, data__root=str(images), distributed__timeout_s=2)))
    expected = scan(data_config(images))
    files = len(expected.train) + len(expected.val)
    answers = [_two_ranks(config, tmp_path / "kept", disk) for _ in range(2)]
    found = [[answer[1:] for answer in ranks] for ranks in answers]
    assert found == [[[rank, len(expected.train), len(expected.val), expected.fingerprint] for rank in range(2)]] * 2
    assert disk.calls() > 2 * files
    assert min(answer[0] for ranks in answers for answer in ranks) > 2, "it took longer than the timeout"


Change = Callable[[Path], object]


def _rewrite(path: Path, content: bytes) -> None:
    """Write other content into a file, whose folder does not notice it."""
    with open(path, "r+b") as file:
        file.truncate()
        file.write(content)


def _last(folder: Path) -> Path:
    return sorted(folder.iterdir())[-1]


CHANGES: dict[str, Change] = {
    "a file is added": lambda root: picture(root / "train" / "class_a" / "new.png"),
    "a file is removed": lambda root: _last(root / "val" / "class_b").unlink(),
    "a file is renamed": lambda root: _last(root / "val" / "class_b").rename(root / "val" / "class_b" / "z.jpg"),
    "a file has another size": lambda root: _rewrite(root / "train" / "class_c" / "002.jpg", b"other"),
    "a file is left aside": lambda root: (root / "train" / "class_a" / "x.heic").touch(),
    "a folder with images is added": lambda root: picture(root / "train" / "class_a" / "deep" / "new.png"),
    "an unread folder is added": lambda root: (root / "results").mkdir(),
    "a class is renamed": lambda root: (root / "val" / "class_b").rename(root / "val" / "class_x"),
}


def _keys(root: Path, name: str) -> dict[str, Any]:
    """Make a data set of a format in ``root`` and return its keys."""
    if name == "folder":
        return {}
    if name == "drawn":
        shutil.rmtree(root / "val")
        return {"val_fraction": 0.2}
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.*"))
    for table, part in (("train.csv", names[:60]), ("val.csv", names[60:])):
        labels = (str(len(path) / 7) if name == "numbers" else path.split("/")[1] for path in part)
        lines = [f"{path},{label}\n" for path, label in zip(part, labels, strict=True)]
        (root / table).write_text("path,label\n" + "".join(lines))
    return {"format": "csv", "task": "regression" if name == "numbers" else "classification"}


@pytest.mark.parametrize("name", ["folder", "drawn", "table", "numbers"])
def test_the_kept_scan_is_the_scan(images: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = data_config(images, **_keys(images, name))
    _make_old(images)
    path = tmp_path / "kept"
    first = kept_or_scanned(cfg, path)
    monkeypatch.setattr(reuse, "scan", None)  # to call it is an error now
    again = kept_or_scanned(cfg, path)
    for split in ("train", "val"):
        one, other = first.split(split), again.split(split)
        for column in ("paths", "labels", "sizes"):
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column), strict=True)
    rest = [(index.root, index.images, index.task, index.classes, index.fingerprint) for index in (first, again)]
    assert rest[0] == rest[1]
    assert (first.notes, first.refused) == (again.notes, again.refused)
    assert kept_or_scanned(cfg.model_copy(update={"workers": 3}), path).fingerprint == first.fingerprint


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(images: Path, tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture) -> None:
    cfg = data_config(images)
    kept_or_scanned(cfg, tmp_path / "kept")
    CHANGES[change](images)
    try:
        expected = scan(cfg)
    except DistTrainError as error:
        with pytest.raises(type(error)):
            kept_or_scanned(cfg, tmp_path / "kept")
        return
    with caplog.at_level(logging.INFO, "dist_train"):
        found = kept_or_scanned(cfg, tmp_path / "kept")
    assert (found.fingerprint, found.notes) == (expected.fingerprint, expected.notes)
    assert "scanning again" in caplog.text
    assert read_scan(tmp_path / "kept") is not None


def test_a_table_that_changes_is_read_again(images: Path, tmp_path: Path) -> None:
    cfg = data_config(images, **_keys(images, "table"))
    _make_old(images)
    before = kept_or_scanned(cfg, tmp_path / "kept")
    table = (images / "train.csv").read_text()
    _rewrite(images / "train.csv", table.replace(",class_a", ",class_b", 1).encode())  # of the same size
    assert kept_or_scanned(cfg, tmp_path / "kept").fingerprint == scan(cfg).fingerprint != before.fingerprint


def test_other_keys_are_another_scan(images: Path, tmp_path: Path) -> None:
    kept_or_scanned(data_config(images), tmp_path / "kept")
    fewer = kept_or_scanned(data_config(images, max_val_images=3), tmp_path / "kept")
    assert len(fewer.val) == 3
    classes = ["class_b", "class_a"]
    assert kept_or_scanned(data_config(images, classes=classes), tmp_path / "kept").classes == classes


def test_a_folder_that_changed_just_now_is_not_trusted(image_folder: Path, tmp_path: Path) -> None:
    """Its next change could have the same time."""
    root = Path(shutil.copytree(image_folder, tmp_path / "images"))
    os.utime(root / "train" / "class_a")
    cfg = data_config(root)
    kept_or_scanned(cfg, tmp_path / "kept")
    kept = read_scan(tmp_path / "kept")
    assert kept is not None
    assert kept.places[str(root / "train" / "class_a")][0] == -1


def test_of_a_large_set_a_sample_is_looked_at(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = data_config(images)
    kept_or_scanned(cfg, tmp_path / "kept")
    monkeypatch.setattr(reuse, "SAMPLE", 20)
    kept = read_scan(tmp_path / "kept")
    assert kept is not None
    sample = [path for path, _ in reuse._sample(kept)]
    assert len(set(sample)) == 20
    assert sample == [path for path, _ in reuse._sample(kept)], "the same each time"
    monkeypatch.setattr(reuse, "scan", None)
    others = sorted({str(path) for path in images.rglob("*.jpg")} - set(sample))
    os.utime(others[0])
    kept_or_scanned(cfg, tmp_path / "kept")
    os.utime(sample[0])
    with pytest.raises(TypeError):
        kept_or_scanned(cfg, tmp_path / "kept")


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, None])
def test_a_damaged_file_is_said_and_replaced(
    images: Path, tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "kept"
    expected = kept_or_scanned(data_config(images), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage is None else damage)
    assert kept_or_scanned(data_config(images), path).fingerprint == expected.fingerprint
    assert "is damaged, or of another version" in caplog.text
    assert read_scan(path) is not None


def test_a_scan_that_cannot_be_kept_is_said(images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "kept").mkdir()
    assert len(kept_or_scanned(data_config(images), tmp_path / "kept").train) > 0
    assert "the next start scans again" in caplog.text


def test_data_set_objects_are_opened_each_time(tmp_path: Path) -> None:
    cfg = data_config(make_fashion_mnist(tmp_path / "data"), format="torchvision", name="FashionMNIST")
    kept_or_scanned(cfg, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("ending", ["tar", "zip"])
def test_the_tables_of_archives_are_kept(
    image_folder: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = tar_of if ending == "tar" else zip_of
    files, kept, root = files_below(image_folder), tmp_path / "kept", tmp_path / "archives"
    write(root / f"all.{ending}", files)
    _make_old(root)
    cfg = data_config(root, format=ending)
    first = kept_or_scanned(cfg, kept)
    with monkeypatch.context() as patch:
        patch.setattr(reuse, "scan", None)  # to call it is an error now
        again = kept_or_scanned(cfg, kept)
    name = again.train.name(5)
    assert again.fingerprint == first.fingerprint
    assert again.images.content(name) == files[name]  # type: ignore[attr-defined]
    write(root / f"all.{ending}", files | {"train/class_a/new.png": files[name]})
    assert len(kept_or_scanned(cfg, kept).train) == len(first.train) + 1
    write(root / f"train-more.{ending}", {"class_a/more.png": files[name]})
    assert len(kept_or_scanned(cfg, kept).train) == len(first.train) + 2
