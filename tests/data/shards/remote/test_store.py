"""Archives of another machine: parts, versions, a network that fails; a file system of fsspec in this process."""

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.exceptions import FSTimeoutError

from dist_train.data.index import scan
from dist_train.data.packing.pack import MB, pack
from dist_train.data.shards.copier import copy_all
from dist_train.data.shards.remote import store as remote
from dist_train.data.shards.remote.store import RemoteFile, Store, files_below, read, version_of
from dist_train.data.stored.reuse import kept_or_scanned
from dist_train.data.stored.survey import stamp_of
from dist_train.errors import DataError
from dist_train.hooks.base import Hook
from tests.support.archives import image_bytes, tar_of, zip_of
from tests.support.data_roots import data_config, names
from tests.support.failing_store import failing_store
from tests.support.gcs_server import GcsServer
from tests.support.gcs_server import system as gcs_system
from tests.support.gcs_server import upload as upload_to_google
from tests.support.runs import changed, fails, resumes_exactly, state_digest, train
from tests.support.s3_server import S3Server, upload
from tests.support.s3_server import system as s3_system

FILES = {f"{split}/{name}/1.png": image_bytes(9) for split in ("train", "val") for name in "ab"}
ROOT = "memory://bucket/shards"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    """A file system with one archive."""
    system = fsspec.filesystem("memory", use_listings_cache=False)
    system.pipe(f"{ROOT}/all.tar", tar_of(tmp_path / "all.tar", FILES).read_bytes())
    yield system
    system.store.clear()


def config(root: str = ROOT, **keys: Any) -> Any:
    return data_config(root, **{"format": "tar", **keys})  # type: ignore[arg-type]


class Failing:
    """A file system whose first calls fail."""

    def __init__(self, system: Any, errors: list[Exception]) -> None:
        self._system, self._errors = system, errors

    def __getattr__(self, name: str) -> Any:
        if self._errors:
            raise self._errors.pop(0)
        return getattr(self._system, name)


def test_files_versions_and_parts(store: Any) -> None:
    store.pipe(f"{ROOT}/sub/b.tar", b"0123456789")
    store.pipe(f"{ROOT}/sub/deeper/c.tar", b"")
    assert list(files_below(ROOT)) == ["all.tar", "sub/b.tar"]
    assert files_below(f"{ROOT}/sub/b.tar") == {"": version_of(f"{ROOT}/sub/b.tar")}
    assert read(f"{ROOT}/sub/b.tar", 8, 5) == b"89"
    assert read(f"{ROOT}/sub/b.tar", 3, 0) == b""
    with io.BufferedReader(RemoteFile(f"{ROOT}/sub/b.tar"), 4) as file:
        assert (file.read(3), file.seek(-2, io.SEEK_END), file.read(9), file.tell()) == (b"012", 8, b"89", 10)


def test_a_file_that_is_read_in_order_has_its_next_parts_on_their_way(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(200))
    store.pipe(f"{ROOT}/b.bin", content)
    asked, at_once = [], threading.Barrier(remote.AHEAD)

    def noted(path: str, offset: int, length: int) -> bytes:
        asked.append(offset)
        if 0 < offset <= 10 * remote.AHEAD:
            at_once.wait(10)
        return read(path, offset, length)

    monkeypatch.setattr(remote, "read", noted)
    with RemoteFile(f"{ROOT}/b.bin") as file:
        assert b"".join(file.read(10) for _ in range(20)) == content
        assert sorted(asked) == list(range(0, 200, 10)), "no part is asked for twice"
        asked.clear()
        for place in (150, 77, 170):
            file.seek(place)
            assert file.read(10) == content[place : place + 10]
        assert asked == [150, 77, 170], "nothing is read ahead of a place here and there"


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_the_index_is_that_of_the_local_archive(store: Any, tmp_path: Path, kind: str) -> None:
    path = (tar_of if kind == "tar" else zip_of)(tmp_path / "in" / f"all.{kind}", FILES)  # type: ignore[operator]
    store.pipe(f"{ROOT}/{kind}/all.{kind}", path.read_bytes())
    here = scan(data_config(path.parent, format=kind))
    for root in (f"{ROOT}/{kind}", f"{ROOT}/{kind}/", f"{ROOT}/{kind}/all.{kind}"):
        there = scan(config(root, format=kind))
        assert (there.fingerprint, names(there.train)) == (here.fingerprint, names(here.train))
        assert there.images.content("val/b/1.png") == FILES["val/b/1.png"]  # type: ignore[attr-defined]


def test_an_archive_that_changes_or_goes_is_named(store: Any, tmp_path: Path) -> None:
    images: Any = scan(config()).images
    store.pipe(f"{ROOT}/all.tar", store.cat_file(f"{ROOT}/all.tar"))
    with pytest.raises(DataError, match=rf"the archive {ROOT}/all.tar has changed since"):
        images.content("train/a/1.png")
    store.rm(f"{ROOT}/all.tar")
    with pytest.raises(DataError, match=rf"cannot read {ROOT}/all.tar: file or folder not found"):
        images.content("train/a/1.png")
    with pytest.raises(DataError, match=r"holds no .tar file|file or folder not found"):
        scan(config())


def test_a_server_that_sends_whole_files_is_named(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "cat_file", lambda path, start, end, **keys: bytes(2 * (end - start)))
    with pytest.raises(DataError, match=rf"cannot read {ROOT}/all.tar: the server, or a proxy before it, sends whole"):
        read(f"{ROOT}/all.tar", 0, 512)


def test_a_kept_scan_is_used_until_something_changes(store: Any, tmp_path: Path, caplog: Any) -> None:
    kept_or_scanned(config(), tmp_path / "scan")
    with caplog.at_level("INFO"):
        kept_or_scanned(config(), tmp_path / "scan")
        assert "has not changed since it was scanned" in caplog.text
        store.pipe(f"{ROOT}/val-2.tar", tar_of(tmp_path / "2.tar", {"a/9.png": FILES["val/a/1.png"]}).read_bytes())
        found = kept_or_scanned(config(), tmp_path / "scan")
    assert "scanning again" in caplog.text
    assert "val/a/9.png" in names(found.val)


def test_a_copy_is_made_of_the_version_that_was_scanned(store: Any, tmp_path: Path, caplog: Any) -> None:
    copy, (size, changed) = str(tmp_path / "copy.tar"), version_of(f"{ROOT}/all.tar")
    assert copy_all([(f"{ROOT}/all.tar", copy, size, changed + 1)]) == []
    job = (f"{ROOT}/all.tar", copy, size, changed)
    assert copy_all([job]) == [job]
    assert Path(copy).read_bytes() == store.cat_file(f"{ROOT}/all.tar")
    store.rm(f"{ROOT}/all.tar")
    assert copy_all([(f"{ROOT}/all.tar", str(tmp_path / "other.tar"), size, changed)]) == []
    assert "file or folder not found; it is read from where it is" in caplog.text


def test_a_network_that_fails_for_a_while_is_tried_again(
    store: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(remote, "WAITS_S", (0.0, 0.0))
    errors: list[Exception] = [TimeoutError("too slow"), ConnectionResetError("reset")]
    monkeypatch.setattr(remote, "_store", lambda path, now: Store(Failing(store, errors), path))
    assert len(read(f"{ROOT}/all.tar", 0, 512)) == 512
    assert caplog.text.count("too slow; trying again") == 1
    errors += [RuntimeError("no route")] * 3
    with pytest.raises(
        DataError, match=rf"cannot read {ROOT}/all.tar: no route; tried 3 times in .*: check the network"
    ):
        read(f"{ROOT}/all.tar", 0, 512)
    errors += [PermissionError("Forbidden"), RuntimeError("not reached")]
    with pytest.raises(DataError, match="Forbidden; check the credentials"):
        read(f"{ROOT}/all.tar", 0, 512)
    assert stamp_of(ROOT)[0] > 0


def test_no_attempt_begins_when_the_library_has_tried_for_long(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITS_S", (0.0, 9.0, 0.0))
    monkeypatch.setattr(remote, "PATIENCE_S", 8.0)
    errors: list[Exception] = [TimeoutError("slow"), FSTimeoutError(), RuntimeError("not reached")]
    monkeypatch.setattr(remote, "_store", lambda path, now: Store(Failing(store, errors), path))
    with pytest.raises(DataError, match="the server did not answer in time; tried 2 times in 0 s: check the network"):
        read(f"{ROOT}/all.tar", 0, 512)


@pytest.mark.slow
def test_s3_tells_at_once_that_credentials_or_a_bucket_are_missing(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "WAITS_S", (99.0,))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    tar_of(tmp_path / "all.tar", FILES)
    root = upload(tmp_path, "set")

    def told(root: str, **environment: str) -> str:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value) if value else patch.delenv(name)
            with pytest.raises(DataError) as caught:
                scan(config(root))
        return str(caught.value)

    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert "Unable to locate credentials; check the credentials in this process's environment (AWS_ACC" in told(
        root, **nothing
    )
    assert "(nobody) could not be found; check the credentials" in told(root, AWS_PROFILE="nobody")
    assert "Invalid endpoint: nonsense; correct the address" in told(root, AWS_ENDPOINT_URL="nonsense")
    assert told("s3://nowhere/set") == "cannot read s3://nowhere/set: the bucket nowhere does not exist"
    assert told("s3://nowhere") == "cannot read s3://nowhere: the bucket nowhere does not exist"
    assert "file or folder not found" in told("s3://photos/other")
    server.stop()
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "9")  # moto: so many requests pass, then it asks for rights
    server.start()
    for _ in range(9):
        with suppress(PermissionError):
            s3_system().ls("photos")
    assert "Forbidden; check the credentials" in told(root)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    found = S3Server(monkeypatch)
    yield found
    found.stop()


class StopsServer(Hook):
    """Ends the server, whose process a file names, after the second step: as a network that is cut in the middle of a run."""

    def __init__(self, file: str) -> None:
        self._file = Path(file)

    def after_step(self, step: int, scalars: Any) -> None:
        if step == 2 and self._file.exists():
            os.kill(int(self._file.read_text()), signal.SIGKILL)


def check_that_a_change_is_noticed(
    images: Any, root: str, path: Path, upload: Callable[[Path, str], str], system: Any
) -> None:
    """Upload another archive in place of ``path``, then remove it: a read of an image names the archive."""
    tar_of(path, FILES | {"train/a/1.png": image_bytes(7)})
    upload(path.parent, "set")
    with pytest.raises(DataError, match=rf"the archive {root}/all.tar has changed since"):
        images.content("train/a/1.png")
    system.rm(f"{root}/all.tar")
    with pytest.raises(DataError, match=rf"cannot read {root}/all.tar: file or folder not found"):
        images.content("train/a/1.png")


@pytest.mark.slow
def test_an_object_of_s3_that_changes_is_missing_or_whose_server_stops(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "WAITS_S", (0.1, 0.1))
    path = tar_of(tmp_path / "in" / "all.tar", FILES)
    root = upload(path.parent, "set")
    images: Any = scan(config(root)).images
    assert images.content("val/b/1.png") == FILES["val/b/1.png"]
    upload(path.parent, "set")
    assert images.content("val/b/1.png") == FILES["val/b/1.png"], "the same bytes have the same ETag"
    check_that_a_change_is_noticed(images, root, path, upload, s3_system())
    with pytest.raises(DataError, match=r"cannot read s3://nowhere/set: "):
        scan(config("s3://nowhere/set"))
    server.stop()
    with pytest.raises(DataError, match=r"cannot read s3://photos/set/all.tar: .*; tried 3 times"):
        images.content("train/a/1.png")


def check_weights(
    tree: dict[str, Any], tmp_path: Path, world_size: int, stage: bool, upload: Callable[[Path, str], str]
) -> None:
    """Train from a folder and, with a resume, from its archives behind ``upload``; the weights must be equal."""
    tree = changed(tree, checkpoint__every_steps=2, checkpoint__keep=9, data__workers=1)
    run = train(changed(tree, run__name="folder"), world_size)
    pack(Path(tree["data"]["root"]), tmp_path / "out", MB)
    keys = {"data__format": "tar", "data__root": upload(tmp_path / "out", "set"), "run__name": "remote"}
    keys |= {"data__stage": str(tmp_path / "node")} if stage else {}
    assert state_digest(resumes_exactly(changed(tree, **keys), world_size, kept=1)) == state_digest(run)


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "stage"), [(1, True), (2, False), (4, True)])
def test_a_run_from_s3_ends_with_the_weights_of_the_folder(
    server: S3Server, tree: dict[str, Any], tmp_path: Path, world_size: int, stage: bool
) -> None:
    check_weights(tree, tmp_path, world_size, stage, upload)
    if stage:
        copies = (tmp_path / "node" / f"dist_train-{os.geteuid()}-archives").iterdir()
        assert sorted(p.stat().st_size for p in copies) == sorted(
            p.stat().st_size for p in (tmp_path / "out").iterdir()
        )


@pytest.mark.slow
def test_a_server_that_stops_ends_the_run_and_a_new_start_goes_on(
    server: S3Server, tree: dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    pid = tmp_path / "pid"
    hook = {"name": f"{StopsServer.__module__}:{StopsServer.__name__}", "options": {"file": str(pid)}}
    tree = changed(tree, checkpoint__every_steps=1, data__workers=1, data__prefetch=1, hooks=[hook])
    run = train(changed(tree, run__name="folder"))
    pack(Path(tree["data"]["root"]), tmp_path / "out", MB)
    tree = changed(tree, data__format="tar", data__root=upload(tmp_path / "out", "set"), run__name="remote")
    pid.write_text(str(server.pid))
    said = fails(tree, capsys)
    assert "cannot read s3://photos/set/" in said
    assert "tried 7 times" in said
    pid.unlink()
    server.stop()
    server.start()
    upload(tmp_path / "out", "set")
    assert state_digest(train(tree)) == state_digest(run)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    found = GcsServer(monkeypatch)
    yield found
    found.stop()


@pytest.mark.slow
def test_an_object_of_google_that_changes_or_is_missing(google: GcsServer, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "in" / "all.tar", FILES)
    root = upload_to_google(path.parent, "set")
    found = scan(config(root))
    images: Any = found.images
    assert found.fingerprint == scan(data_config(path.parent, format="tar")).fingerprint
    assert images.content("val/b/1.png") == FILES["val/b/1.png"]
    check_that_a_change_is_noticed(images, root, path, upload_to_google, gcs_system())
    for missing in ("gs://nowhere/set", "gs://photos/other"):
        with pytest.raises(DataError, match=rf"cannot read {missing}: file or folder not found"):
            scan(config(missing))


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "stage"), [(1, False), (2, True), (4, False)])
def test_a_run_from_google_ends_with_the_weights_of_the_folder(
    google: GcsServer, tree: dict[str, Any], tmp_path: Path, world_size: int, stage: bool
) -> None:
    check_weights(tree, tmp_path, world_size, stage, upload_to_google)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "gs", "hf"])
def test_each_store_may_fail_for_a_while(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.read_timeout", 1)
    monkeypatch.setattr("dist_train.data.shards.remote.systems.SILENCE_S", 1.0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
    archive = tar_of(tmp_path / "in" / "set" / "all.tar", FILES)
    expected = archive.read_bytes()[100:2100]
    with failing_store(kind, archive.parent, monkeypatch) as (root, proxy):
        path = f"{root}/all.tar"
        assert read(path, 100, 2000) == expected
        version = version_of(path)
        for fault in (500, 503, 429, "cut", "stall", "silent"):
            proxy.fail(fault, word="GET /")
            assert read(path, 100, 2000) == expected, fault
            assert proxy.failed.pop().startswith(f"{fault} GET")
            proxy.fail(fault)
            assert version_of(path) == version, fault
        proxy.fail_all(401)
        with pytest.raises(DataError, match=rf"cannot read {path}: .*; check the credentials in this process"):
            read(path, 100, 2000)
