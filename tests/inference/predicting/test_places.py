"""Options that do not fit; ``test_predict_images.py`` has the messages."""

from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from dist_train.inference.predicting.places import Places, is_parquet


def test_where_embeddings_go() -> None:
    assert Places(Path("a.parquet"), Path("a.parquet")).in_table
    assert Places(Path("a.parquet"), Path("b/../a.parquet").absolute()).in_table
    assert not Places(Path("a.parquet"), Path("a.npy")).in_table
    assert not Places(None, None).in_table
    with pytest.raises(
        ConfigError, match=r"--embeddings \(a.npy\) is the file of --out, and only a .parquet file holds both"
    ):
        Places(Path("a.npy"), Path("a.npy"))  # one file cannot be both
    assert [is_parquet(Path(name)) for name in ("a.PARQUET", "a.csv", "parquet")] == [True, False, False]
