"""All ranks of a node map one copy of a large index; a rank that cannot gets a copy."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.data.index import scan
from dist_train.data.stored import reuse, shared_scan
from dist_train.data.stored.reuse import kept_or_scanned, read_index
from dist_train.data.stored.scan_file import read_scan
from dist_train.data.stored.shared_scan import shared
from dist_train.distributed.group import Dist, joined
from tests.support.data_roots import data_config
from tests.support.ranks import run_ranks


def _memory() -> set[str]:
    """Return the inodes of memory with a scan that this process has mapped."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[4] for line in maps if "memfd:dist_train-scan" in line}


def _ways(root: Path, folder: Path) -> list[Any]:
    """Read an index in each way. Return its content, and the memory that it lies in."""
    config, found = data_config(root), []

    def read(name: str) -> None:
        index = read_index(config, group, kept=folder / name)
        content = (index.fingerprint, index.notes, index.train.paths.tobytes(), index.val.labels[:].tobytes())
        found.append((content, _memory()))
        index.train.sizes[:] += 1  # writes of one rank are not seen by others

    with joined(_distributed()) as group:
        logging.getLogger("dist_train").setLevel(logging.ERROR)
        read("small")
        shared_scan.LARGE = 1
        for name in ("new", "new"):
            read(name)
        if group.rank == 1:  # as in a container, which hides the processes of others
            shared_scan._read_at = _only_own(shared_scan._read_at)
        read("new")
        if group.rank == 1:  # as on a node that has not the run folder
            shared_scan._loaded = lambda path: None  # type: ignore[assignment]
            shared_scan.BOOT_ID = folder / "boot_id"
            shared_scan.BOOT_ID.write_text("another node")
        read("new")
    return found


def _only_own(read_at: Any) -> Any:
    return lambda place, read: read_at(place, read) if place.startswith("/proc/self/") else None


def _distributed() -> Any:
    from dist_train.config.sections.distributed import DistributedConfig

    return DistributedConfig()


def test_two_ranks_have_one_copy(image_folder: Path, tmp_path: Path) -> None:
    first, second = run_ranks(2, _ways, image_folder, tmp_path)
    expected = scan(data_config(image_folder))
    for content, _ in [*first, *second]:
        assert content == (
            expected.fingerprint,
            expected.notes,
            expected.train.paths.tobytes(),
            expected.val.labels[:].tobytes(),
        )
    memory = [(ours, theirs) for (_, ours), (_, theirs) in zip(first, second, strict=True)]
    assert memory[0] == memory[4] == (set(), set()), "small; and sent"
    for ours, theirs in memory[1:3]:
        assert ours == theirs
        assert len(ours) == 1
    ours, theirs = memory[3]
    assert len(ours) == len(theirs) == 1
    assert ours != theirs


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    def read(path: Path) -> str | None:
        return path.read_text() or None

    (tmp_path / "good").write_text("x")
    (tmp_path / "empty").touch()
    assert shared(Dist.alone(), tmp_path / "good", read) == "x"
    assert shared(Dist.alone(), tmp_path / "empty", read) is None, "the reader does not want it"
    assert shared(Dist.alone(), tmp_path / "absent", read) is None
    assert shared(Dist.alone(), tmp_path, read) is None


def _stale(root: Path, folder: Path) -> Any:
    """Read an index whose scan cannot be kept, beside the kept one of another data set."""
    with joined(_distributed()) as group:
        shared_scan.LARGE = 1
        if group.is_main:
            reuse.write_scan = _full  # type: ignore[assignment]
        return read_index(data_config(root), group, kept=folder / "kept").images.root


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_stale_file_is_not_read(image_folder: Path, tmp_path: Path) -> None:
    """Its index has the same fingerprint, and another root."""
    moved = Path(shutil.copytree(image_folder, tmp_path / "moved"))
    kept_or_scanned(data_config(image_folder), tmp_path / "kept")
    assert run_ranks(2, _stale, moved, tmp_path) == [str(moved)] * 2


@pytest.mark.parametrize("mapped", [False, True])
def test_an_index_stays_when_its_file_is_gone(image_folder: Path, tmp_path: Path, mapped: bool) -> None:
    index = kept_or_scanned(data_config(image_folder), tmp_path / "kept")
    found = read_scan(tmp_path / "kept", mapped)
    (tmp_path / "kept").unlink()
    assert found is not None
    assert found.index.train.paths.tobytes() == index.train.paths.tobytes()
    assert type(found.index.train.paths) is np.ndarray
