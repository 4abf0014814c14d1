"""A scan without sizes, the record that follows, and what a resume notices with and without it.

Small data sets stand for large ones: ``ASKED_AT_ONCE`` is 0.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dist_train.checkpoint.manifest import Manifest
from dist_train.config import parse_config
from dist_train.data import index as index_module
from dist_train.data.changed_files import save_listing
from dist_train.data.index import NAMES_ONLY, DataIndex, scan, with_sizes
from dist_train.data.stored import record as record_module
from dist_train.data.stored import reuse
from dist_train.data.stored.record import record, recording
from dist_train.data.stored.reuse import kept_or_scanned
from dist_train.data.stored.scan_file import read_scan
from dist_train.errors import DataError
from dist_train.run.folder import RunDir
from dist_train.training.resume import _same_data, holds_sizes
from tests.support.data_roots import data_config, picture
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, state_digest
from tests.support.tables import tabled

A_MINUTE_NS = 60 * 10**9


@pytest.fixture
def large(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(index_module, "ASKED_AT_ONCE", 0)
    monkeypatch.setattr(reuse, "ASKED_AT_ONCE", 0)
    return made_old(Path(shutil.copytree(image_folder, tmp_path / "images")))


def made_old(root: Path) -> Path:
    """Set all times below a folder, which tests have just written, to a minute ago."""
    for path in [root, *root.rglob("*")]:
        then = path.stat().st_mtime_ns - A_MINUTE_NS
        os.utime(path, ns=(then, then))
    return root


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path / "run")


def begun(root: Path, run: RunDir, **keys: Any) -> tuple[DataIndex, Manifest]:
    """Return what the first start of a run finds, and the manifest of its checkpoint."""
    index = kept_or_scanned(data_config(root, **keys), run.scan, sized=False)
    return index, Manifest(1, False, world_size=1, data_fingerprint=index.fingerprint, config={})


def resumed(root: Path, run: RunDir, manifest: Manifest, **keys: Any) -> DataIndex:
    index = kept_or_scanned(data_config(root, **keys), run.scan, sized=False)
    _same_data(manifest, index, run)
    return index


def test_a_scan_without_sizes_asks_for_no_file(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = data_config(large)
    with_all = scan(cfg)
    with monkeypatch.context() as patch:
        patch.setattr("dist_train.data.stored.file_facts._looking_below", None)  # to call it is an error now
        found = scan(cfg, sized=False)
    assert found.fingerprint.endswith(NAMES_ONLY)
    assert not found.has_sizes
    assert with_all.has_sizes
    assert len(with_all.fingerprint) == 64, "the form of older versions"
    assert with_sizes(found).train.sizes.tolist() == with_all.train.sizes.tolist()
    monkeypatch.setattr(index_module, "ASKED_AT_ONCE", 83)
    assert scan(cfg, sized=False).fingerprint == with_all.fingerprint, "of a small set they are asked for in any case"


def test_the_fingerprint_without_sizes_follows_names_and_labels(large: Path) -> None:
    def fingerprint(root: Path) -> str:
        return scan(data_config(root), sized=False).fingerprint

    original = fingerprint(large)
    assert fingerprint(Path(shutil.copytree(large, large.parent / "copy"))) == original
    image = large / "train" / "class_a" / "000.png"
    picture(image, (9, 9))
    assert fingerprint(large) == original
    moved = image.rename(large / "train" / "class_b" / "000.png")
    assert fingerprint(large) != original
    moved.rename(large / "train" / "class_a" / "zero.png")
    assert fingerprint(large) not in ("", original)


@pytest.mark.parametrize("form", ["folder", "table"])
def test_after_the_record_a_start_asks_for_the_same_as_ever(
    large: Path, tmp_path: Path, run: RunDir, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = large if form == "folder" else made_old(tabled(large, tmp_path / "tables", "regression"))
    columns = {"format": "csv", "task": "regression", "csv": {"targets": ["red", "width"]}}
    keys = {} if form == "folder" else columns
    first, manifest = begun(root, run, **keys)
    expected = scan(data_config(root, **keys))
    record(run.scan, run.listing)
    save_listing(tmp_path / "listing", expected)
    assert run.listing.read_bytes() == (tmp_path / "listing").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("dist_train.data.stored.reuse.scan", None)  # to call it is an error now
        again = resumed(root, run, manifest, **keys)
    assert again.fingerprint == first.fingerprint
    for split in ("train", "val"):
        assert again.split(split).sizes.tolist() == expected.split(split).sizes.tolist()  # type: ignore[arg-type]
    before = run.scan.read_bytes()
    record(run.scan, run.listing)
    assert run.scan.read_bytes() == before, "there is nothing left to ask"


def rewrite(path: Path) -> None:
    """Write other content of another size, which the folder does not notice."""
    with open(path, "r+b") as file:
        file.truncate(10)


def replace_by_rename(path: Path) -> None:
    (path.parent / ".new").write_bytes(b"other")
    os.replace(path.parent / ".new", path)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (rewrite, "1 file of another size (train/class_c/002.jpg)"),
    "replaced": (replace_by_rename, "1 file of another size (train/class_c/002.jpg)"),
    "added": (lambda path: picture(path.with_name("new.png")), "1 file added (train/class_c/new.png)"),
    "removed": (Path.unlink, "1 file removed (train/class_c/002.jpg)"),
    "renamed": (
        lambda path: path.rename(path.with_name("z.jpg")),
        "1 file added (train/class_c/z.jpg); 1 file removed",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_the_record_is_refused_by_name(large: Path, run: RunDir, change: str) -> None:
    _, manifest = begun(large, run)
    record(run.scan, run.listing)
    do, words = CHANGES[change]
    do(large / "train" / "class_c" / "002.jpg")
    for _ in range(2):  # the second start finds the scan of the first
        with pytest.raises(DataError) as caught:
            resumed(large, run, manifest)
        assert words in str(caught.value)
        record(run.scan, run.listing)
        kept = read_scan(run.scan)
        assert kept is not None


def test_other_times_of_the_same_files_are_no_change(large: Path, run: RunDir) -> None:
    _, manifest = begun(large, run)
    record(run.scan, run.listing)
    for path in large.rglob("*"):
        os.utime(path)
    assert not resumed(large, run, manifest).has_sizes
    record(run.scan, run.listing)
    assert resumed(large, run, manifest).fingerprint == manifest.data_fingerprint


def test_a_copy_with_other_sizes_in_another_place_is_refused(large: Path, tmp_path: Path, run: RunDir) -> None:
    _, manifest = begun(large, run)
    record(run.scan, run.listing)
    copy = Path(shutil.copytree(large, tmp_path / "copy"))
    resumed(copy, run, manifest)
    rewrite(copy / "train" / "class_c" / "002.jpg")
    with pytest.raises(DataError, match="1 file of another size"):
        resumed(copy, run, manifest)


def test_without_a_record_names_are_compared_and_that_is_said(
    large: Path, run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    _, manifest = begun(large, run)
    resumed(large, run, manifest)
    assert "only names and labels are compared" in caplog.text
    CHANGES["renamed"][0](large / "train" / "class_c" / "002.jpg")
    with pytest.raises(DataError, match="fingerprint"):
        resumed(large, run, manifest)


def test_a_change_between_scan_and_record_is_said(large: Path, run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    begun(large, run)
    time.sleep(0.02)
    image = large / "train" / "class_c" / "002.jpg"
    rewrite(image)
    os.utime(image, ns=(0, 0))  # a copy that keeps times
    (large / "val" / "class_a" / "000.png").unlink()
    caplog.set_level(logging.WARNING, "dist_train")
    record(run.scan, run.listing)
    assert "2 files" in caplog.text
    assert "such as train/class_c/002.jpg" in caplog.text


def test_a_run_of_an_older_version_keeps_its_fingerprint(large: Path, tree: dict[str, Any], tmp_path: Path) -> None:
    cfg = parse_config(changed(tree, data__root=str(large)))
    run = RunDir(tmp_path / "run")
    assert not holds_sizes(cfg, run)
    for step, fingerprint in ((2, "0" * 64), (3, "0" * 64 + NAMES_ONLY)):
        path = run.checkpoints / f"step_{step:08d}"
        path.mkdir(parents=True)
        (path / "manifest.json").write_text(f'{{"data_fingerprint": "{fingerprint}"}}')
        assert holds_sizes(cfg, run) == (step == 2)
    damaged = run.checkpoints / "step_00000004" / "manifest.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    (run.checkpoints / "step_00000003" / "manifest.json").write_text('{"data_fingerprint": "0"}')
    assert holds_sizes(cfg, run), "the checkpoint before a damaged one says it"
    device = cfg.model_copy(update={"augment": cfg.augment.model_copy(update={"device": True})})
    assert holds_sizes(device, run), "a cache of decoded images must know its files"


def test_the_process_records_and_ends_with_its_block(large: Path, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    index, _ = begun(large, run)
    started = []
    start = record_module._started
    monkeypatch.setattr(record_module, "_started", lambda *words: started.append(start(*words)) or started[-1])
    with recording(run.scan, run.listing, index, 0):
        assert started[0].poll() is None
    assert started[0].poll() is not None, "killed with the block"
    assert not run.listing.exists()
    with recording(run.scan, run.listing, index, 0):
        began = time.monotonic()
        while not run.listing.exists() and time.monotonic() - began < 60:
            time.sleep(0.05)
    assert run.listing.exists()
    with recording(run.scan, run.listing, kept_or_scanned(data_config(large), run.scan, sized=False), 0):
        assert len(started) == 2, "there is nothing left to ask"
    assert sorted(path.name for path in run.path.iterdir()) == [run.listing.name, run.scan.name]


def _trained(tree: dict[str, Any], asked_at_once: int) -> int:
    from dist_train.training.attempt import main

    index_module.ASKED_AT_ONCE = reuse.ASKED_AT_ONCE = asked_at_once
    return main(parse_config(tree))


@pytest.mark.slow
def test_a_run_ends_with_the_same_weights_whether_sizes_are_known_or_not(large: Path, tree: dict[str, Any]) -> None:
    digests = []
    for name, asked_at_once in (("small", 16_384), ("large", 0)):
        one = changed(tree, data__root=str(large), run__name=name)
        assert run_ranks(2, _trained, changed(one, train__max_steps=2), asked_at_once) == [0, 0]
        run = RunDir.of(parse_config(one).run)
        if asked_at_once == 0 and not run.listing.exists():
            record(run.scan, run.listing)
        longer = changed(one, train__max_steps=3, schedule__on_extend="rescale")
        assert run_ranks(2, _trained, longer, asked_at_once) == [0, 0]
        digests.append(state_digest(folder(one)))
    assert digests[0] == digests[1]
