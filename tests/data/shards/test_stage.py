"""Archives that are copied to the node's own disk while a run reads them."""

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from dist_train.data.index import scan
from dist_train.data.packing.pack import MB, pack
from dist_train.data.shards.files import BLOCK, version_of
from dist_train.data.shards.places import Shard
from dist_train.data.shards.stage import copy_name, start_copying
from tests.support.data_roots import data_config
from tests.support.failing_store import failing_store
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sending a large body")  # by the upload
@pytest.mark.parametrize("kind", ["s3", "gs", "hf"])
def test_a_copy_of_another_machine_that_is_killed_goes_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = random.Random(0).randbytes(3 * BLOCK)
    (tmp_path / "in" / "set").mkdir(parents=True)
    (tmp_path / "in" / "set" / "all.tar").write_bytes(content)
    with failing_store(kind, tmp_path / "in" / "set", monkeypatch) as (root, proxy):
        shard = Shard("all.tar", *version_of(f"{root}/all.tar"))
        copy, part = tmp_path / "copy.tar", tmp_path / "copy.tar.part"
        proxy.fault = lambda request: "silent" if f"bytes={2 * BLOCK}-" in request else None
        process = start_copying(root, [shard], [str(copy)])
        deadline = time.monotonic() + 100
        while not (part.exists() and part.stat().st_size == 2 * BLOCK) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert not copy.exists()
        proxy.fail()
        proxy.passed.clear()
        start_copying(root, [shard], [str(copy)]).wait(100)
    assert copy.read_bytes() == content
    parts = [request.split()[-1] for request in proxy.passed if "bytes=" in request]
    assert parts == [f"bytes={2 * BLOCK}-{3 * BLOCK - 1}"]
