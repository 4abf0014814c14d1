"""Checkpoints: written whole, verified when read, a few kept.

``checkpoints/step_00000123/`` holds ``state.pt`` and ``manifest.json``, which says how long ``state.pt`` is and
what its SHA-256 is. The folder appears under its name by one rename, when both are on disk.
"""

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dist_train.errors import ConfigError
from dist_train.files import fsync_dir, read_json, sha256_of
from dist_train.tensor_files import load_state, save_state

log = logging.getLogger(__name__)

FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is, readable without opening it."""

    step: int
    evaluated: bool
    world_size: int
    data_fingerprint: str
    bytes: int = 0
    sha256: str = ""
    format: int = FORMAT

    @property
    def name(self) -> str:
        """The folder's name. One saved before the evaluation of its step sorts before the one saved after it."""
        return f"step_{self.step:08d}" + ("-evaluated" if self.evaluated else "")


class Checkpoints:
    """The checkpoints of one run. ``save`` and ``newest`` are for rank 0 alone."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def save(self, state: dict[str, Any], manifest: Manifest) -> None:
        """Write one checkpoint durably, then remove the oldest beyond ``keep``."""
        target = self._folder / manifest.name
        if target.exists():
            return
        temporary = self._folder / f".{target.name}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        path = temporary / "state.pt"
        with open(path, "wb") as file:
            save_state(file, state)
            file.flush()
            os.fsync(file.fileno())
        described = asdict(manifest) | {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        with open(temporary / "manifest.json", "w") as file_:
            json.dump(described, file_, indent=2)
            file_.flush()
            os.fsync(file_.fileno())
        fsync_dir(temporary)
        os.rename(temporary, target)
        fsync_dir(self._folder)
        for old in self._all()[: -self._keep]:
            shutil.rmtree(old)

    def newest(self) -> tuple[Path, Manifest] | None:
        """The newest checkpoint that verifies; damaged ones are set aside and told.

        Raises:
            ConfigError: it was written by a version of this program that we cannot read.
        """
        for path in reversed(self._all()):
            fault = _fault(path)
            if fault is None:
                return path, Manifest(**read_json(path / "manifest.json"))
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            log.warning("checkpoint %s is damaged (%s): set aside as %s", path.name, fault, aside.name)
        return None

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("step_*"))


def load(path: Path) -> dict[str, Any]:
    """The state in a checkpoint folder, on the CPU."""
    return load_state(path / "state.pt")


def _fault(path: Path) -> str | None:
    """Why a checkpoint cannot be used; None if it can."""
    manifest = read_json(path / "manifest.json")
    if not isinstance(manifest, dict) or "sha256" not in manifest:
        return "its manifest is missing or unreadable"
    if manifest["format"] != FORMAT:
        raise ConfigError(
            f"{path} has format {manifest['format']}, and this version reads {FORMAT}; use the version that wrote it"
        )
    state = path / "state.pt"
    size = state.stat().st_size if state.is_file() else -1
    if size != manifest["bytes"]:
        return f"state.pt has {size} bytes, the manifest says {manifest['bytes']}"
    if sha256_of(state) != manifest["sha256"]:
        return "the SHA-256 of state.pt is not the manifest's"
    return None
