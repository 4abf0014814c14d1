"""The W&B files in a run folder, read without wandb."""

import os
import struct
from pathlib import Path

import pytest

from dist_train.loggers.wandb.files import (
    client_env,
    logged_steps,
    planted_settings,
    raw_records,
    read_session,
    segments_of,
    session_path,
)
from dist_train.run.folder import RunDir
from dist_train.system.files import write_json

BLOCK = 32768


def chunk(kind: int, data: bytes) -> bytes:
    return struct.pack("<IHB", 0, len(data), kind) + data


def test_records_are_put_together_over_blocks(tmp_path: Path) -> None:
    """As LevelDB's log writes them: a file header of 7 bytes, then chunks that end with their block."""
    path = tmp_path / "run-x.wandb"
    first = bytes(7) + chunk(1, b"whole")
    room = BLOCK - len(first) - 7
    path.write_bytes(first + chunk(2, b"a" * room) + chunk(4, b"z") + chunk(1, b"cut short")[:-3])
    assert list(raw_records(path)) == [b"whole", b"a" * room + b"z"]


def test_a_block_that_has_no_room_for_a_header_is_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "run-x.wandb"
    long = b"a" * (BLOCK - 7 - 7 - 3)
    path.write_bytes(bytes(7) + chunk(1, long) + bytes(3) + chunk(1, b"next"))
    assert list(raw_records(path)) == [long, b"next"]


def test_each_split_has_its_own_last_step() -> None:
    rows = [{"train/step": 2, "train/loss": 1.0}, {"val/step": 2}, {"train/step": 4}, {"best/step": 9}]
    assert logged_steps(rows) == {"train": 4, "val": 2}


def test_segments_come_in_the_order_of_their_starts(tmp_path: Path) -> None:
    names = [
        "offline-run-20260102_000000-id",
        "run-20260101_000000-id",
        "run-20260103_000000-id",
        "run-20260101_000000-other",
    ]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / f"run-{name.rpartition('-')[2]}.wandb").touch()
    assert [path.parent.name for path in segments_of(tmp_path, "id")] == [names[1], names[0], names[2]]


def test_the_client_gets_nothing_empty_and_writes_into_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path)
    write_json(session_path(run), {"id": "abc", "project": "p", "entity": None})
    for name, value in {
        "WANDB_ENTITY": "",
        "WANDB_RUN_ID": "other",
        "WANDB_RESUME": "never",
        "WANDB_API_KEY": "k",
    }.items():
        monkeypatch.setenv(name, value)
    env = client_env(run)
    assert (env["WANDB_RUN_ID"], env["WANDB_PROJECT"], env["WANDB_API_KEY"]) == ("abc", "p", "k")
    assert not {"WANDB_ENTITY", "WANDB_RESUME"} & env.keys()
    assert env["WANDB_DATA_DIR"].startswith(str(tmp_path))
    assert (Path(env["PYTHONPATH"].split(os.pathsep)[0]) / "dist_train").is_dir()


def test_a_planted_settings_file_is_found(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert planted_settings(run) is None
    for name in ("wandb", ".wandb"):
        path = tmp_path / "wandb" / "local" / name / "settings"
        path.parent.mkdir(parents=True)
        path.write_text("[default]\nbase_url = https://example.org\n")
        assert planted_settings(run) == path
        path.unlink()


@pytest.mark.parametrize(
    "wrong",
    [{"id": "../x"}, {"id": "*"}, {"id": ""}, {"id": 5}, {"id": "a", "project": "-x"}, {"id": "a", "entity": "a\0"}],
)
def test_a_session_that_no_run_wrote_is_not_used(tmp_path: Path, wrong: dict[str, object]) -> None:
    write_json(session_path(RunDir(tmp_path)), {"id": "a1b2", "project": "my project", "entity": None})
    assert read_session(RunDir(tmp_path))["id"] == "a1b2"
    write_json(session_path(RunDir(tmp_path)), wrong)
    assert read_session(RunDir(tmp_path)) == {}
