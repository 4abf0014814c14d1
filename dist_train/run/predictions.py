"""``predictions.npz``: the best model's prediction for each validation image; confusion matrices and ``compare`` use it."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dist_train.system.files import open_regular

Ints = NDArray[np.int32]
MOST_BYTES = 1 << 30
"""Of all arrays: 1.3 million images with paths of 190 characters."""
MOST_CLASSES = 1 << 20


@dataclass(frozen=True)
class Predictions:
    """One entry per validation image, in data-set order.

    ``step`` is the optimizer step of the weights, ``pred_N`` and ``label_N`` are class indices, and
    ``paths`` name the images relative to ``data.root``; empty if they have no files.
    """

    step: int
    pred_N: Ints
    label_N: Ints
    paths: list[str]


def pack_predictions(predictions: Predictions) -> bytes:
    """Return the bytes of the file: about 2 per image, and the compressed paths."""
    return pack_arrays(
        predictions.step,
        predictions.paths,
        pred=predictions.pred_N.astype(np.int32),
        label=predictions.label_N.astype(np.int32),
    )


def pack_arrays(step: int, paths: list[str], **arrays: NDArray[Any]) -> bytes:
    """Return the bytes of a compressed .npz with ``step``, ``paths`` and ``arrays``, one entry per image."""
    file = io.BytesIO()
    entries: dict[str, Any] = {"step": np.int64(step), **arrays, "paths": np.array(paths, dtype=np.str_)}
    np.savez_compressed(file, **entries)
    return file.getvalue()


DAMAGED = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error),  # the file or its archive is cut off or changed
    *(NotImplementedError, RuntimeError),  # zipfile: a compression or encryption that it does not know
    *(SyntaxError, TypeError, ValueError, ArithmeticError, MemoryError),  # NumPy: the header of an array is not one
    LookupError,  # an array is missing
)
"""What reading an .npz raises if its bytes are damaged or hostile."""


def load_predictions(path: Path) -> Predictions | None:
    """Return what the file contains; None if it is missing or damaged."""
    try:
        with open_regular(path) as file:
            _refuse_bomb(file)
            with np.load(file, allow_pickle=False) as data:
                return _checked(data["step"], data["pred"], data["label"], data["paths"])
    except DAMAGED:
        return None


def _refuse_bomb(file: BinaryIO) -> None:
    """Raise ValueError if the arrays are too large: a zip file of 1 MB can hold 1 GB."""
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > MOST_BYTES:
        raise ValueError(f"{size} bytes")
    file.seek(0)


def _checked(step: Any, pred: Any, label: Any, paths: Any) -> Predictions:
    """Return the content of the file. Raise ValueError if its arrays do not fit, or hold no class indices."""
    for numbers in (pred, label):
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or len(numbers) != len(pred):
            raise ValueError("not one class index for each image")
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < MOST_CLASSES:
            raise ValueError("no class has such an index")
    if paths.ndim != 1 or paths.dtype.kind != "U" or len(paths) not in (0, len(pred)):
        raise ValueError("not one path for each image")
    return Predictions(int(step), pred.astype(np.int32), label.astype(np.int32), paths.tolist())


def confusion_KK(predictions: Predictions, classes: int) -> Ints:
    """Return the number of images for each ``[label, prediction]``: int [classes, classes]."""
    flat = np.bincount(predictions.label_N.astype(np.int64) * classes + predictions.pred_N, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int32)
