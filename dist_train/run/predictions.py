"""``predictions.npz``: the best model's prediction for each validation image; confusion matrices and ``compare`` use it."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]


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


def load_predictions(path: Path) -> Predictions | None:
    """Return what the file contains; None if it is missing or damaged."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
            loaded = Predictions(int(data["step"]), data["pred"], data["label"], data["paths"].tolist())
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None
    return (
        loaded if len(loaded.pred_N) == len(loaded.label_N) and len(loaded.paths) in (0, len(loaded.pred_N)) else None
    )


def confusion_KK(predictions: Predictions, classes: int) -> Ints:
    """Return the number of images for each ``[label, prediction]``: int [classes, classes]."""
    flat = np.bincount(predictions.label_N.astype(np.int64) * classes + predictions.pred_N, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int32)
