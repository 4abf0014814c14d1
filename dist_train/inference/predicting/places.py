"""Where a prediction goes. Without torch, so that a wrong option is an error at once."""

import os
from dataclasses import dataclass
from pathlib import Path

from dist_train.errors import ConfigError
from dist_train.system.terminal import check_suffix

TABLES = (".csv", ".parquet")
"""Formats of the table, by the suffix of the file."""


@dataclass(frozen=True)
class Places:
    """The files that the user has chosen.

    Attributes:
        table: a .parquet or a .csv file; CSV too if its name has no suffix, or is that of a pipe or a device. None means CSV
            on stdout.
        embeddings: a .npy file; or the parquet file ``table``, which then has a column of them; None means no embeddings.
    """

    table: Path | None
    embeddings: Path | None

    def __post_init__(self) -> None:
        """Raise ``ConfigError`` if the name of a file says another format than what is written."""
        if (
            self.table is not None
            and self.table.suffix
            and (os.path.isfile(self.table) or not os.path.exists(self.table))
        ):
            check_suffix("--out", self.table, TABLES)
        path = self.embeddings
        if path is None or (self.in_table and is_parquet(path)):
            return
        if self.in_table:
            raise ConfigError(
                f"--embeddings ({path}) is the file of --out, and only a .parquet file holds both; change one"
            )
        if path.suffix.lower() != ".npy":
            raise ConfigError(f"--embeddings ({path}) must end in .npy, or be the .parquet file of --out; change it")

    @property
    def files(self) -> list[Path]:
        """Return the files that the user has chosen."""
        return [path for path in (self.table, self.embeddings) if path]

    @property
    def in_table(self) -> bool:
        """Return whether the embeddings are a column of the table."""
        if self.table is None or self.embeddings is None:
            return False
        return self.embeddings.resolve() == self.table.resolve()


def is_parquet(path: Path) -> bool:
    """Return whether the name says that the file is to be a parquet file."""
    return path.suffix.lower() == ".parquet"
