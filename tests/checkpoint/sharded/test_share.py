"""Rank 0's writer takes only the files of this save, and waits no longer than its limit; an error names its rank."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dist_train.checkpoint import writing
from dist_train.checkpoint.sharded.share import NAME, Share, ShareError, hear, tell, written
from dist_train.checkpoint.stored import load, newest
from dist_train.checkpoint.writing import answer_of
from tests.support.shares import equal, save_shares, share_of
from tests.support.states import state_of


def test_records_come_in_the_order_of_ranks_and_are_removed(tmp_path: Path) -> None:
    for rank in (2, 1):
        share = Share(rank, 3, "a", 1.0)
        assert NAME.fullmatch(share.file)
        tell(tmp_path, share, written(share.file, rank, "d"))
    assert [record["bytes"] for record in hear(tmp_path, Share(0, 3, "a", 1.0))] == [1, 2]
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_writes_is_waited_for_longer_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file grows for 40 times the limit before the record is there. The pauses take no time here."""
    share, paused_s = Share(1, 2, "a", 0.5), list[float]()

    def pause(seconds: float) -> None:
        paused_s.append(seconds)
        with open(tmp_path / share.file, "ab") as file:
            file.write(b"more")
        if sum(paused_s) > 20:
            tell(tmp_path, share, written(share.file, 60, "d"))

    monkeypatch.setattr(time, "sleep", pause)
    assert hear(tmp_path, Share(0, 2, "a", 0.5)) == [written(share.file, 60, "d")]


def test_a_rank_that_writes_nothing_is_named_after_the_limit(tmp_path: Path) -> None:
    tell(tmp_path, Share(1, 4, "a", 0.1), written("state.1-of-4.safetensors", 1, "d"))
    with pytest.raises(ShareError, match=r"nothing came from rank 2, 3 for 0 s \(`distributed.timeout_s`\)"):
        hear(tmp_path, Share(0, 4, "a", 0.1))


def test_the_share_of_a_killed_attempt_is_never_taken(tmp_path: Path) -> None:
    save_shares(tmp_path, state_of(1), 2, step=1)
    assert not answer_of(*share_of(tmp_path, state_of(99), 1, 2, step=2, token="killed"))
    answer = answer_of(*share_of(tmp_path, state_of(2), 0, 2, step=2, token="now"))
    assert "nothing came from rank 1" in answer
    assert sorted(os.listdir(tmp_path)) == ["step_00000001"], "neither the left-over nor the new attempt is left"


def test_the_error_of_another_rank_is_told_and_the_checkpoint_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No single rank has a full disk in a test, hence the stand-in for its write."""
    save_shares(tmp_path, state_of(1), 2, step=1)

    def full(path: Path, *args: Any) -> int:
        path.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_durably", full)
        answer = answer_of(*share_of(tmp_path, state_of(2), 1, 2, step=2))
    assert answer.startswith("No space left on device (")
    unfinished = tmp_path / ".step_00000002.a.tmp"
    assert [path.name for path in unfinished.iterdir()] == ["state.1-of-2.safetensors.json"], "room for the record"
    assert json.loads((unfinished / "state.1-of-2.safetensors.json").read_text()) == {"error": answer}
    told = answer_of(*share_of(tmp_path, state_of(2), 0, 2, step=2))
    assert told.startswith("rank 1: No space left on device (")
    assert os.listdir(tmp_path) == ["step_00000001"]
    found = newest(tmp_path)
    assert found is not None
    assert equal(load(found[0]), state_of(1))


def test_files_of_other_states_do_not_become_a_checkpoint(tmp_path: Path) -> None:
    assert not answer_of(*share_of(tmp_path, {"other": state_of(1)["turned"]}, 1, 2))
    assert "in the files of the ranks are not the whole tensor" in answer_of(*share_of(tmp_path, state_of(1), 0, 2))
    assert os.listdir(tmp_path) == []


def test_a_checkpoint_that_is_there_is_not_written_again_but_its_files_appear(tmp_path: Path) -> None:
    folder, best = tmp_path / "checkpoints", tmp_path / "best.safetensors"
    save_shares(folder, state_of(1), 2)
    assert not answer_of(*share_of(folder, state_of(2), 0, 2, best=best))
    found = newest(folder)
    assert found is not None
    assert equal(load(found[0]), state_of(1))
    assert best.exists()
