"""Tables about six images, ``photos/0.png`` to ``photos/5.png``."""

from array import array
from collections.abc import Sequence
from pathlib import Path

from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.tables.rows import Table
from tests.support.data_roots import data_config, picture

GOOD = "path,label,who\n" + "".join(f"photos/{number}.png,{'ab'[number % 2]},x\n" for number in range(6))
"""A table without faults."""


def make_photos(root: Path) -> Path:
    """Write the images, each of another size."""
    for number in range(6):
        picture(root / "photos" / f"{number}.png", (8 + number, 8))
    return root


def paths(*numbers: int) -> list[str]:
    """Names of images, as a table writes them."""
    return [f"photos/{number}.png" for number in numbers]


def written(root: Path, text: str | bytes, name: str = "train.csv") -> DataConfig:
    """Write a table byte for byte, and return a config that draws the validation set from it."""
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return data_config(root, format="csv", val_fraction=0.4)


def in_columns(paths: Sequence[str], *fields: Sequence[str], further: Sequence[Sequence[str]] = ()) -> Table:
    """Return a table t.csv as the reader returns it, with its first image on line 2."""
    table = Table(Path("t.csv"), [*paths], [[*column] for column in fields], [[*column] for column in further])
    table.lines = array("q", range(2, 2 + len(paths)))
    return table
