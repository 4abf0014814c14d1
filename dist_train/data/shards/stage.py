"""``data.stage``: archives are copied to the node's own disk in the background, while training begins from the shared copy."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dist_train.config.sections.data import DataConfig
from dist_train.config.types import is_remote
from dist_train.data.index import DataIndex
from dist_train.data.shards.places import Shard
from dist_train.data.shards.shard_images import ShardImages
from dist_train.distributed.group import Dist
from dist_train.system.files import fingerprint
from dist_train.system.private_folder import private_folder

NAME_LENGTH = 32


def staged(cfg: DataConfig, index: DataIndex, group: Dist) -> DataIndex:
    """Return the index of images that are read from the copies as far as these are there; one rank per node starts to copy.

    Each read looks for the copy by itself, so that ranks and loader processes need no message about it.

    Raises:
        ConfigError: ``data.stage`` cannot be this user's own folder.
    """
    images = index.images
    if cfg.stage is None or not isinstance(images, ShardImages):
        return index
    with group.together():
        folder = private_folder(Path(cfg.stage, f"dist_train-{os.geteuid()}-archives"), "data.stage")
    copies = tuple(str(folder / copy_name(images.root, shard)) for shard in images.shards)
    if group.local_rank == 0:
        process = start_copying(images.root, images.shards, copies, group.rank)
        threading.Thread(target=process.wait, name="data.stage", daemon=True).start()  # or its end leaves a zombie
    return replace(index, images=replace(images, copies=copies))


def copy_name(root: str, shard: Shard) -> str:
    """Return the name of the copy of an archive: of another one, or after a change, it is another."""
    path = os.path.join(root, shard.path)
    path = path if is_remote(path) else os.path.realpath(path)
    return fingerprint([path, shard.size, shard.changed_ns])[:NAME_LENGTH] + os.path.splitext(path)[1]


def start_copying(
    root: str, shards: Sequence[Shard], copies: Sequence[str], rank: int = 0
) -> "subprocess.Popen[bytes]":
    """Start the process that copies the archives one after the other, and ends with this one."""
    jobs = [
        (os.path.join(root, shard.path), copy, shard.size, shard.changed_ns)
        for shard, copy in zip(shards, copies, strict=True)
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "dist_train.data.shards.copier", str(rank)], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(json.dumps(jobs).encode())
    return process
