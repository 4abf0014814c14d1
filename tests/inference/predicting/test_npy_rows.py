"""A .npy file that grows, and is whole or not there."""

from pathlib import Path

import numpy as np
import pytest

from dist_train.errors import ConfigError
from dist_train.inference.predicting.npy_rows import opened_npy


@pytest.mark.parametrize("count", [0, 1, 1234])
def test_numpy_reads_what_was_written(count: int, tmp_path: Path) -> None:
    rows_NE = np.random.default_rng(0).random((count, 5), dtype=np.float32)
    with opened_npy("--embeddings", tmp_path / "new" / "a.npy", 5) as add:
        for row_E in rows_NE:
            add(row_E)
    found = np.load(tmp_path / "new" / "a.npy")
    assert found.dtype == np.float32
    assert np.array_equal(found, rows_NE)


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="midway"), opened_npy("--embeddings", tmp_path / "a.npy", 5) as add:
        add(np.zeros(5, np.float32))
        raise RuntimeError("midway")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.npy", b"old")]
    with (
        pytest.raises(ConfigError, match=r"--embeddings \(.*\) is a folder; name a file in it"),
        opened_npy("--embeddings", tmp_path, 5),
    ):
        pass
