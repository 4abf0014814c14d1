"""Digests of files, by the name of their algorithm."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3

from dist_train.checkpoint.digests import ALGORITHM, ALGORITHMS, BLOCK, digest_of, new_digest


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
def test_they_are_those_of_the_public_algorithms(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "a").write_bytes(content)
    assert digest_of(tmp_path / "a", "sha256") == hashlib.sha256(content).hexdigest()
    assert digest_of(tmp_path / "a", "blake3") == blake3(content).hexdigest()


def test_that_of_a_new_checkpoint_can_be_verified(tmp_path: Path) -> None:
    digest = new_digest()
    digest.update(memoryview(b"con"))
    digest.update(memoryview(b"tent"))
    (tmp_path / "a").write_bytes(b"content")
    assert digest.hexdigest() == digest_of(tmp_path / "a", ALGORITHM)
    assert {"sha256", ALGORITHM} <= ALGORITHMS.keys(), "checkpoints of version 0.1.0 have a SHA-256"


def test_a_disk_that_fails_is_an_error_not_a_signal() -> None:
    """The memory of this process stands for a disk: its first page cannot be read."""
    with pytest.raises(OSError) as error:  # noqa: PT011 - the number is compared
        digest_of(Path("/proc/self/mem"), ALGORITHM)
    assert error.value.errno == errno.EIO
