"""A .npy file, written row by row."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dist_train.system.files import atomic_write, remove_leftovers
from dist_train.system.terminal import check_output, writing_output

AddRow = Callable[[NDArray[np.float32]], None]
"""Adds a row float32 [E]."""


@contextmanager
def opened_npy(option: str, path: Path, width: int) -> Iterator[AddRow]:
    """Yield the function that adds a row to an array [N, E]. The file appears whole, or not at all.

    NumPy leaves room in the header for the number of rows, which is known at the end.

    Raises:
        ConfigError: the file cannot be written.
    """
    rows = 0
    check_output(option, path)
    remove_leftovers(path)
    with writing_output(option, path), atomic_write(path) as file:

        def header() -> None:
            shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
            np.lib.format.write_array_header_1_0(file, shape)

        def add(row: NDArray[np.float32]) -> None:
            nonlocal rows
            with writing_output(option, path):
                file.write(row.astype("<f4").tobytes())
            rows += 1

        header()
        yield add
        file.seek(0)
        header()
