"""Archives on the Hugging Face Hub: a stub of it, since no test may ask the real one."""

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import get_session

from dist_train.data.index import scan
from dist_train.data.packing.pack import MB, pack
from dist_train.data.shards.remote import hub
from dist_train.data.stored.survey import stamp_of
from dist_train.drill.faults import FAULTS, CommandStart, Traces, strike, wait_for_end, wait_until
from dist_train.errors import DataError
from dist_train.run.folder import RunDir
from tests.data.shards.remote.test_store import check_weights
from tests.support.archives import image_bytes, tar_of
from tests.support.data_roots import data_config
from tests.support.fuzz_starts import LaunchStart
from tests.support.hub_server import HubServer
from tests.support.runs import changed, folder, state_digest, train

FILES = {f"{split}/{name}/1.png": image_bytes(9) for split in ("train", "val") for name in "ab"}
ROOT = "hf://datasets/me/photos/shards"
FAULT = next(fault for fault in FAULTS if fault.name == "SIGKILL of everything")


def config(root: str = ROOT) -> Any:
    return data_config(root, format="tar")  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The Hub with one archive."""
    tar_of(tmp_path / "hub" / "shards" / "all.tar", FILES)
    found = HubServer(tmp_path / "hub", monkeypatch)
    yield found
    found.stop()


def test_a_process_reads_the_commit_that_it_found_first(server: HubServer, tmp_path: Path) -> None:
    path = tmp_path / "hub" / "shards" / "all.tar"
    found, stamp = scan(config()), stamp_of(ROOT)
    assert found.fingerprint == scan(data_config(path.parent, format="tar")).fingerprint
    images: Any = found.images
    assert images.content("val/b/1.png") == FILES["val/b/1.png"]
    tar_of(path, FILES | {"train/a/1.png": image_bytes(7)})
    assert images.content("train/a/1.png") == FILES["train/a/1.png"]
    assert stamp_of(ROOT) != stamp, "each start looks at the repository as it is"
    with pytest.raises(DataError, match=rf"the archive {ROOT}/all.tar has changed since"):
        images.content("train/a/1.png")


def test_an_image_is_one_request_for_its_bytes(server: HubServer) -> None:
    images: Any = scan(config()).images
    images.content("train/a/1.png")
    server.asked.clear()
    for name, content in FILES.items():
        assert images.content(name) == content
    assert len(server.asked) == len(FILES)
    for asked, content in zip(server.asked, FILES.values(), strict=True):
        first, last = map(int, re.search(r"resolve/.*bytes=(\d+)-(\d+)", asked).groups())  # type: ignore[union-attr]
        assert last - first + 1 == len(content)


@pytest.mark.parametrize(
    ("root", "told"),
    [
        ("hf://datasets/me/other/x", "the repository does not exist, or is private: then set HF_TOKEN"),
        ("hf://datasets/me/photos@v2/shards", "the repository has no such revision"),
        ("hf://datasets/me/photos/other", "file or folder not found"),
        ("hf://datasets/me", "Repository id must be .*; correct the address"),
    ],
)
def test_a_wrong_address_is_named_at_once(server: HubServer, root: str, told: str) -> None:
    with pytest.raises(DataError, match=rf"cannot read {root}: .*{told}"):
        scan(config(root))


def test_a_listing_without_an_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub tries five times with growing waits, so that the test calls what it does once."""
    monkeypatch.setattr(hub, "SILENCE_S", 0.2)
    hub.limit_waits()
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Exception, match="timed out"):
        get_session().get(f"http://127.0.0.1:{silent.getsockname()[1]}/api/datasets/me/photos/tree/main", timeout=None)


def packed(tree: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Return the config that reads the images of another one from the Hub."""
    pack(Path(tree["data"]["root"]), tmp_path / "hub" / "set", MB)
    return changed(tree, data__format="tar", data__root="hf://datasets/me/photos/set", run__name="remote")


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "stage"), [(1, False), (2, False), (2, True)])
def test_a_run_from_the_hub_ends_with_the_weights_of_the_folder(
    server: HubServer, tree: dict[str, Any], tmp_path: Path, world_size: int, stage: bool
) -> None:
    def upload(folder: Path, name: str) -> str:
        shutil.copytree(folder, tmp_path / "hub" / name)
        return f"hf://datasets/me/photos/{name}"

    check_weights(tree, tmp_path, world_size, stage, upload)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [CommandStart, LaunchStart])
def test_a_command_on_two_ranks_goes_on_after_sigkill(
    server: HubServer, tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[CommandStart]
) -> None:
    """Its ranks and loader processes find the Hub by HF_ENDPOINT alone."""
    monkeypatch.delenv("FSSPEC_HF_ENDPOINT")
    tree = changed(tree, train__epochs=6, checkpoint__every_steps=2, data__workers=1, log__every_steps=1)
    run = train(changed(tree, run__name="folder"), 2)
    tree = packed(tree, tmp_path)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    traces = Traces(RunDir(folder(tree)))
    for fault in (FAULT, None):
        started = kind(["--config", str(tmp_path / "c.yaml")], 2, tmp_path / "log")
        if fault is not None:
            wait_until(lambda: bool(traces.saved()), started, 120)
            strike(fault, started, 0)
        wait_for_end(started, 120)
        assert (traces.status() == "done") == (fault is None), (tmp_path / "log").read_text()
    assert state_digest(traces.run.path) == state_digest(run)
