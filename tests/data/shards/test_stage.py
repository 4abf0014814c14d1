"""Archives that are copied to the node's own disk while a run reads them."""

import os
from pathlib import Path
from typing import Any

import pytest

from dist_train.data.index import scan
from dist_train.data.packing.pack import MB, pack
from dist_train.data.shards.stage import copy_name, start_copying
from tests.support.data_roots import data_config
from tests.support.runs import changed, fails, resumes_exactly, state_digest, train


def test_a_run_that_stages_ends_with_the_weights_of_the_folder(tree: dict[str, Any], tmp_path: Path) -> None:
    tree = changed(tree, checkpoint__every_steps=2, checkpoint__keep=9, data__workers=1)
    run = train(changed(tree, run__name="folder"))
    pack(Path(tree["data"]["root"]), tmp_path / "out", MB)
    keys = {"data__format": "tar", "data__root": str(tmp_path / "out"), "data__stage": str(tmp_path / "node")}
    assert state_digest(resumes_exactly(changed(tree, run__name="staged", **keys), 1, kept=1)) == state_digest(run)
    folder = tmp_path / "node" / f"dist_train-{os.geteuid()}-archives"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_process_copies_each_archive(image_folder: Path, tmp_path: Path) -> None:
    pack(image_folder, tmp_path / "out", MB)
    images: Any = scan(data_config(tmp_path / "out", format="tar")).images
    copies = [str(tmp_path / copy_name(images.root, shard)) for shard in images.shards]
    assert start_copying(images.root, images.shards, copies).wait(100) == 0
    for copy, shard in zip(copies, images.shards, strict=True):
        assert Path(copy).read_bytes() == (tmp_path / "out" / shard.path).read_bytes()
        assert os.stat(copy).st_mtime_ns == shard.changed_ns


def test_a_folder_that_is_a_file_is_refused(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(Path(tree["data"]["root"]), tmp_path / "out", MB)
    (tmp_path / "node").touch()
    keys = {"data__format": "tar", "data__root": str(tmp_path / "out"), "data__stage": str(tmp_path / "node")}
    assert "cannot be this user's own folder: Not a directory" in fails(changed(tree, **keys), capsys)
