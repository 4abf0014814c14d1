"""The newest valid checkpoint is found; damaged ones are set aside; a disk that fails gives a clear error."""

import hashlib
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.checkpoint.store import Checkpoints
from dist_train.checkpoint.stored import ReadError, load, newest, verify
from dist_train.errors import ConfigError
from tests.support.ranks import run_ranks
from tests.support.runs import changed, train
from tests.support.states import manifest_of, state_of


@pytest.fixture
def checkpoints(tmp_path: Path) -> Any:
    made = Checkpoints(tmp_path / "checkpoints", keep=2)
    yield made
    made.close()


@pytest.mark.parametrize("damage", ["truncate", "flip", "no manifest", "half a manifest", "no state"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(
    checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(logging.getLogger("dist_train"), "propagate", True)
    for step in (1, 2):
        checkpoints.save(state_of(step), manifest_of(step))
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    state, manifest = found[0] / "state.safetensors", found[0] / "manifest.json"
    match damage:
        case "truncate":
            os.truncate(state, state.stat().st_size - 1)
        case "flip":
            content = bytearray(state.read_bytes())
            content[len(content) // 2] ^= 1
            state.write_bytes(content)
        case "no manifest":
            manifest.unlink()
        case "half a manifest":
            manifest.write_text(manifest.read_text()[:40])
        case "no state":
            state.unlink()
    again = checkpoints.newest()
    assert again is not None
    assert again[0].name == "step_00000001"
    assert "checkpoint step_00000002 is damaged" in caplog.text
    assert (found[0].parent / "damaged-step_00000002").is_dir()


@pytest.mark.parametrize("unreadable", ["manifest.json", "."])
def test_what_cannot_be_read_now_is_not_given_up(checkpoints: Checkpoints, tmp_path: Path, unreadable: str) -> None:
    """A path that leads in circles stands for a disk that is away for a moment, or that is another user's."""
    for step in (1, 2):
        checkpoints.save(state_of(step), manifest_of(step))
    checkpoints.wait()
    path = tmp_path / "checkpoints" if unreadable == "." else tmp_path / "checkpoints" / "step_00000002" / unreadable
    path.rename(tmp_path / "kept")
    path.symlink_to(path)
    with pytest.raises(ReadError, match="cannot be read: Too many levels of symbolic links; fix the disk"):
        checkpoints.newest()
    path.unlink()
    (tmp_path / "kept").rename(path)
    found = checkpoints.newest()
    assert found is not None
    assert found[1].step == 2


def test_a_look_sets_nothing_aside(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """``--check`` writes nothing, also beside a run that goes on."""
    for step in (1, 2):
        checkpoints.save(state_of(step), manifest_of(step))
    checkpoints.wait()
    os.truncate(tmp_path / "checkpoints" / "step_00000002" / "state.safetensors", 10)
    found = checkpoints.newest(only_look=True)
    assert found is not None
    assert found[1].step == 1
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_00000001", "step_00000002"]


def test_another_format_is_refused_not_set_aside(checkpoints: Checkpoints) -> None:
    checkpoints.save(state_of(1), manifest_of(1))
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    manifest = json.loads((found[0] / "manifest.json").read_text())
    (found[0] / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ConfigError, match="has format 99, but this version reads 3"):
        checkpoints.newest()
    assert found[0].is_dir()


def _as_format_1(path: Path) -> dict[str, Any]:
    """Make a checkpoint one of version 0.1.0. Return its manifest."""
    manifest = json.loads((path / "manifest.json").read_text())
    for key in ("algorithm", "digest"):
        del manifest[key]
    digest = hashlib.sha256((path / "state.safetensors").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest | {"format": 1, "sha256": digest}))
    return manifest


def test_the_sha256_of_a_checkpoint_of_version_0_1_is_verified(checkpoints: Checkpoints) -> None:
    for step in (1, 2):
        checkpoints.save(state_of(step), manifest_of(step))
        checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    _as_format_1(found[0])
    again = checkpoints.newest()
    assert again is not None
    assert again[1].expected[0] == "sha256"
    torch.testing.assert_close(load(again[0]), state_of(2), rtol=0, atol=0)
    content = bytearray((found[0] / "state.safetensors").read_bytes())
    content[-1] ^= 1
    (found[0] / "state.safetensors").write_bytes(content)
    older = checkpoints.newest()
    assert older is not None
    assert older[1].step == 1


def test_version_0_1_refuses_a_new_checkpoint_and_sets_nothing_aside(checkpoints: Checkpoints) -> None:
    """Its code: a manifest without these two keys is damaged; one with another format is refused."""
    checkpoints.save(state_of(1), manifest_of(1))
    checkpoints.wait()
    found = newest(checkpoints._folder)
    assert found is not None
    manifest = json.loads((found[0] / "manifest.json").read_text())
    assert {"sha256", "format"} <= manifest.keys()
    assert manifest["format"] != 1


def test_another_algorithm_is_refused_not_set_aside(checkpoints: Checkpoints) -> None:
    checkpoints.save(state_of(1), manifest_of(1))
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    manifest = json.loads((found[0] / "manifest.json").read_text())
    (found[0] / "manifest.json").write_text(json.dumps(manifest | {"algorithm": "md99"}))
    with pytest.raises(ConfigError, match="digest of the kind 'md99', but this version knows blake3, sha256"):
        checkpoints.newest()
    assert found[0].is_dir()


def test_another_node_that_reads_other_bytes_is_named(checkpoints: Checkpoints) -> None:
    checkpoints.save(state_of(1), manifest_of(1))
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    verify(found[0], "node-b")
    os.truncate(found[0] / "state.safetensors", 100)
    with pytest.raises(ReadError, match=r"not as node-b reads it .*has 100 bytes"):
        verify(found[0], "node-b")
    assert found[0].is_dir(), "rank 0 finds it valid, so it stays"


def _as_a_node_of_its_own(tree: dict[str, Any]) -> list[str]:
    """A start of ranks that are on a node each. The second one reads another folder: no second machine is at hand."""
    from dist_train.config import parse_config
    from dist_train.training import setup
    from dist_train.training.attempt import main

    seen = []
    os.environ["LOCAL_RANK"] = "0"

    def noted(path: Path, host: str) -> None:
        seen.append(host)
        verify(path / "not there", host)

    setup.verify = noted
    assert main(parse_config(tree)) != 0
    return seen


def test_each_node_verifies_what_it_reads(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tree = changed(tree, train__max_steps=1)
    train(tree)
    assert run_ranks(2, _as_a_node_of_its_own, changed(tree, train__max_steps=2)) == [[], [socket.gethostname()]]
    assert f"not as {socket.gethostname()} reads it" in capsys.readouterr().out


def _pages_of(path: Path) -> str:
    """What the process has mapped of a file."""
    lines = Path("/proc/self/smaps").read_text().split("\n")
    place = next(i for i, line in enumerate(lines) if line.endswith(str(path)))
    return next(line for line in lines[place:] if line.startswith("Private_Dirty"))


def test_a_state_is_a_map_of_its_file(checkpoints: Checkpoints) -> None:
    """So that the ranks of a node hold one copy of it together."""
    checkpoints.save({"a": torch.arange(10**6)}, manifest_of(1))
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    state = load(found[0])
    assert state["a"].sum() == 10**6 * (10**6 - 1) // 2
    assert _pages_of(found[0] / "state.safetensors").split()[1:] == ["0", "kB"]
