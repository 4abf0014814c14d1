"""Checkpoints on disk: find the newest valid one, set damaged ones aside, read a state."""

import errno
import logging
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from dist_train.checkpoint.digests import ALGORITHMS, digest_of
from dist_train.checkpoint.format import put_together, read_safetensors
from dist_train.checkpoint.manifest import MANIFEST, READABLE, STATE, Manifest
from dist_train.checkpoint.sharded.reading import load_sharded
from dist_train.errors import ConfigError, DistTrainError
from dist_train.system.files import patiently, read_json

log = logging.getLogger(__name__)


class ReadError(DistTrainError):
    """A checkpoint cannot be read because the disk fails; it may be valid."""


def load(path: Path, by_rows: bool = False) -> Any:
    """Return the state in a checkpoint folder, on the CPU.

    The tensors are a map of the file: the ranks of a node share the pages, which are read from disk once. Those that are
    divided among the files of several ranks are copied.

    Args:
        by_rows: return divided tensors as ``Rows`` instead.
    """
    if (path / STATE).exists():
        return put_together(*read_safetensors(path / STATE))
    return load_sharded([path / name for name, _, _ in Manifest.read(path).files], by_rows)


def newest(folder: Path, only_look: bool = False) -> tuple[Path, Manifest] | None:
    """Return the newest valid checkpoint in ``folder``; None if there is none.

    Damaged ones on the way are logged and renamed to ``damaged-NAME``.

    Args:
        only_look: do not rename damaged ones.

    Raises:
        ConfigError: the checkpoint has a format that this version cannot read.
        ReadError: the disk fails. Such a checkpoint does not count as damaged, since it may be readable later.
    """
    try:
        for path in reversed(patiently(partial(_stored, folder))):
            found = patiently(partial(_look, path))
            if isinstance(found, Manifest):
                return path, found
            log.warning("checkpoint %s is damaged (%s)", path.name, found)
            if not only_look:
                _set_aside(path)
    except OSError as error:
        raise ReadError(
            f"{error.filename} cannot be read: {error.strerror}; fix the disk and start the same command again, or "
            "move this checkpoint out of the folder to use the previous one"
        ) from None
    return None


def verify(path: Path, host: str) -> None:
    """Read a checkpoint that rank 0 has verified on its node. The other ranks of this node then find it in memory.

    Args:
        host: the name of this node, for messages.

    Raises:
        ReadError: this node cannot read it, or reads other bytes.
    """
    try:
        found = patiently(partial(_look, path))
    except OSError as error:
        found = f"{error.filename}: {error.strerror}"
    if not isinstance(found, Manifest):
        raise ReadError(
            f"{path} is valid on the node of rank 0, but not as {host} reads it ({found}); "
            "`run.output_dir` must be one folder for all nodes; see the disk and the network of this node"
        )


def _stored(folder: Path) -> list[Path]:
    """Return the checkpoint folders, oldest first. Not with ``glob``, which hides that a folder cannot be read."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.startswith("step_"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _set_aside(path: Path) -> None:
    aside = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    log.warning("checkpoint %s is renamed to %s", path.name, aside.name)


def _look(path: Path) -> Manifest | str:
    """Return a checkpoint's manifest, or the reason why it is damaged.

    Raises:
        OSError: the disk fails.
    """
    known = read_json(path / MANIFEST, default={})
    if isinstance(known.get("format"), int) and known["format"] not in READABLE:
        raise ConfigError(
            f"{path} has format {known['format']}, but this version reads {READABLE[-1]}; use the version that wrote it"
        )
    try:
        manifest = Manifest.read(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "its manifest is missing or unreadable"
    except OSError as error:
        if error.errno not in (errno.EFBIG, errno.EINVAL, errno.EISDIR):  # too large, or not a regular file
            raise
        return f"its manifest is unreadable: {error.strerror}"
    algorithm, _ = manifest.expected
    if algorithm not in ALGORITHMS:
        raise ConfigError(
            f"{path} has a digest of the kind {algorithm!r}, but this version knows {', '.join(ALGORITHMS)}; "
            "use the version that wrote it"
        )
    return damage(path, manifest) or manifest


def damage(path: Path, manifest: Manifest) -> str:
    """Return what is wrong with the files of a checkpoint; an empty text if they are those of the manifest.

    Raises:
        OSError: the disk fails.
    """
    algorithm, _ = manifest.expected
    sizes = {name: file.stat().st_size if (file := path / name).is_file() else -1 for name, _, _ in manifest.files}
    for name, expected, _ in manifest.files:
        if sizes[name] != expected:
            return f"{name} has {sizes[name]} bytes, but the manifest says {expected}"
    for name, _, digest in manifest.files:
        if digest_of(path / name, algorithm) != digest:
            return f"the {algorithm} digest of {name} differs from the manifest"
    return ""
