"""The W&B files in a run folder: the session (it makes all attempts one W&B run), the lock, the segments.

Imports wandb only to decode records. A segment ``run-*.wandb`` is a LevelDB log: blocks of 32 KiB that contain chunks
``crc32, length, type, data``. A record is one chunk of type 1 (full), or several of types 2, 3 ... 4 (first, middle, last);
it is a protobuf message. If a kill cut the file off, we read the records before the cut.
"""

import json
import logging
import os
import re
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dist_train.loggers.upload.lock import alone_with
from dist_train.loggers.upload.messages import announce
from dist_train.run.folder import RunDir
from dist_train.system.files import open_regular, read_json

_BLOCK = 32768
_CHUNK = struct.Struct("<IHB")
_FILE_HEADER = 7
MOST_RECORD = 64 << 20
_ID = re.compile(r"\w[\w-]{0,127}")
_NAME = re.compile(r"[^\W_][\w .-]{0,255}")

_OURS = (
    *("WANDB_RUN_ID", "WANDB_MODE", "WANDB_DIR", "WANDB_RESUME", "WANDB_DISABLED", "WANDB_SERVICE"),
    *("WANDB_FORK_FROM", "WANDB_RESUME_FROM"),
)
"""Variables that would override what the run folder says."""


def session_path(run: RunDir) -> Path:
    """Return the file with the W&B id of all attempts and the other settings of the uploader."""
    return run.path / "wandb" / "session.json"


def read_session(run: RunDir) -> dict[str, Any]:
    """Return the settings in ``session.json``; empty if it is missing, or has an id or names that W&B cannot have given."""
    session: dict[str, Any] = read_json(session_path(run), default={})
    names = [session.get(key) for key in ("project", "entity")]
    if not isinstance(session.get("id"), str) or not _ID.fullmatch(session["id"]):
        return {}
    return session if all(name is None or (isinstance(name, str) and _NAME.fullmatch(name)) for name in names) else {}


def planted_settings(run: RunDir) -> Path | None:
    """Return the file in the run folder by which somebody could send the user's API key to another server; None without."""
    found = ((run.path / "wandb" / "local" / folder / "settings") for folder in ("wandb", ".wandb"))
    return next((path for path in found if path.exists()), None)


def client_env(run: RunDir) -> dict[str, str]:
    """Return the environment for wandb: no empty variables (they crash the client), all files in the run folder."""
    env = {key: value for key, value in os.environ.items() if value or not key.startswith("WANDB_")}
    for key in _OURS:
        env.pop(key, None)
    session = read_session(run)
    # Under a W&B sweep agent, wandb takes these only from the environment, or invents others.
    names = {"WANDB_RUN_ID": "id", "WANDB_PROJECT": "project", "WANDB_ENTITY": "entity"}
    env |= {name: session[key] for name, key in names.items() if session.get(key)}
    folder = (run.path / "wandb").resolve()
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR"):
        env[name] = str(folder / "local")  # the default is the home folder or the working directory
    env["WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL"] = "1"  # by default 15 s of rows are lost at a kill
    env["WANDB_SILENT"] = "true"  # we print one line instead
    env.setdefault("WANDB_ERROR_REPORTING", "false")
    package_root = str(Path(__file__).resolve().parents[3])
    env["PYTHONPATH"] = os.pathsep.join([package_root, *filter(None, [env.get("PYTHONPATH")])])
    return env


def only_uploader_of(run: RunDir, wait_s: float) -> AbstractContextManager[bool]:
    """Hold the upload lock of the run. Give False if another process keeps it for longer than ``wait_s``."""
    return alone_with(run.path / "wandb" / "lock", wait_s)


def segments_of(folder: Path, run_id: str) -> list[Path]:
    """Return the ``.wandb`` files of all starts of a run, online and offline, oldest first."""
    found = [
        *folder.glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"),
        *folder.glob(f"run-*-{run_id}/run-{run_id}.wandb"),
    ]
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def raw_records(path: Path) -> Iterator[bytes]:
    """Yield the bytes of each record, up to the first damaged one."""
    with open_regular(path) as file:
        file.seek(_FILE_HEADER)
        record = bytearray()
        while True:
            room = _BLOCK - file.tell() % _BLOCK
            if room < _CHUNK.size:
                file.seek(room, os.SEEK_CUR)
                continue
            head = file.read(_CHUNK.size)
            if len(head) < _CHUNK.size:
                return
            _, length, kind = _CHUNK.unpack(head)
            data = file.read(length)
            if not 1 <= kind <= 4 or len(data) < length or len(record) > MOST_RECORD:
                return
            record = bytearray(data) if kind in (1, 2) else record + data
            if kind in (1, 4):
                yield bytes(record)


def records(path: Path) -> Iterator[Any]:
    """Yield the records as ``wandb_internal_pb2.Record`` messages."""
    from wandb.proto import wandb_internal_pb2

    for raw in raw_records(path):
        try:
            yield wandb_internal_pb2.Record.FromString(raw)
        except ValueError:  # protobuf's DecodeError: the file was cut off here
            return


def history(path: Path) -> list[dict[str, Any]]:
    """Yield the rows of one segment, without values under nested keys."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            items = ((item.nested_key[0] if item.nested_key else item.key, item) for item in record.history.item)
            rows.append({key: json.loads(item.value_json) for key, item in items if len(item.nested_key) <= 1})
    return rows


def logged_steps(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return split -> last step in W&B history rows, where every split has its own ``<split>/step``."""
    steps: dict[str, int] = {}
    for row in rows:
        for key, value in row.items():
            split, _, name = key.partition("/")
            if name == "step" and split != "best":  # best/step is a value of the summary, not a split
                steps[split] = max(steps.get(split, -1), int(value))
    return steps


def how_to_sync(run: RunDir) -> str:
    """Return the sentence that tells how to complete the upload."""
    return f"`python -m dist_train wandb-sync {run.path}` uploads what is missing"


def say(message: str) -> None:
    """Print one line on stderr."""
    announce("W&B", message)


def quiet_logging() -> None:
    """Silence wandb's logger: on a full disk it would fill the terminal with tracebacks."""
    logging.raiseExceptions = False
