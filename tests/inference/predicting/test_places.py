"""Options that do not fit; ``test_predict_images.py`` has the messages."""

import os
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
        ConfigError, match=r"--embeddings \(a.csv\) is the file of --out, and only a .parquet file holds both"
    ):
        Places(Path("a.csv"), Path("a.csv"))  # one file cannot be both
    assert [is_parquet(Path(name)) for name in ("a.PARQUET", "a.csv", "parquet")] == [True, False, False]


@pytest.mark.parametrize("name", ["a.json", "a.txt", "a.csv.gz", "a.npy", "runs/a.xlsx"])
def test_a_table_is_never_written_under_the_name_of_another_format(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--out \({name}\) must end in .csv or .parquet$"):
        Places(Path(name), None)


def test_names_that_say_no_other_format(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("a.csv", "a.CSV", "a.parquet", "labels", "/dev/null", str(tmp_path / "pipe.json")):
        assert Places(Path(name), None).table == Path(name)
