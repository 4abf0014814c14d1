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
MOST_BYTES = (1 << 30) + (1 << 26)
"""Of all arrays: 1.3 million images with paths of 190 characters, and the probabilities of 5 classes each."""
MOST_CLASSES = 1 << 20


@dataclass(frozen=True)
class Likeliest:
    """The T likeliest classes of each image, the likeliest first, and their probabilities.

    The order of classes with the same probability is arbitrary.
    """

    classes_NT: Ints
    probabilities_NT: NDArray[np.float16]

    @classmethod
    def of(cls, both: NDArray[np.float32]) -> "Likeliest":
        """Return the content of an array [N, 2 T]: T classes, then T probabilities."""
        classes_NT, probabilities_NT = np.split(both, 2, axis=1)
        return cls(classes_NT.astype(np.int32), probabilities_NT.astype(np.float16))


@dataclass(frozen=True)
class Predictions:
    """One entry per validation image, in data-set order.

    ``step`` is the optimizer step of the weights, ``pred_N`` and ``label_N`` are class indices, and
    ``paths`` name the images relative to ``data.root``; empty if they have no files. ``likeliest`` is None in files of
    older versions.
    """

    step: int
    pred_N: Ints
    label_N: Ints
    paths: list[str]
    likeliest: Likeliest | None = None


@dataclass(frozen=True)
class Outputs:
    """The file of a multilabel task (probabilities) or a regression (numbers): one row per validation image, in data-set order.

    ``outputs_NK`` and ``targets_NK`` are float32 [N, K]; for ``step`` and ``paths`` see ``Predictions``.
    """

    step: int
    outputs_NK: NDArray[np.float32]
    targets_NK: NDArray[np.float32]
    paths: list[str]


def pack_predictions(predictions: Predictions) -> bytes:
    """Return the bytes of the file: 8 per image, its probabilities, and the compressed paths."""
    more: dict[str, NDArray[Any]] = {}
    if predictions.likeliest is not None:
        more["classes"] = predictions.likeliest.classes_NT
        more["probabilities"] = predictions.likeliest.probabilities_NT
    return pack_arrays(
        predictions.step,
        predictions.paths,
        pred=predictions.pred_N.astype(np.int32),
        label=predictions.label_N.astype(np.int32),
        **more,
    )


def pack_arrays(step: int, paths: list[str], **arrays: NDArray[Any]) -> bytes:
    """Return the bytes of an .npz with ``step``, ``paths`` and ``arrays``, one entry per image.

    Only the paths are compressed, and quickly: a rank waits for this. Numbers shrink little and take ten times as long.
    """
    file = io.BytesIO()
    entries: dict[str, Any] = {"step": np.int64(step), **arrays, "paths": np.array(paths, dtype=np.str_)}
    with zipfile.ZipFile(file, "w") as archive:
        for name, values in entries.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(values), allow_pickle=False)
            how = zipfile.ZIP_DEFLATED if name == "paths" else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getbuffer(), how, compresslevel=1)
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
                likeliest = _checked_likeliest(data, len(data["pred"])) if "probabilities" in data else None
                return _checked(data["step"], data["pred"], data["label"], data["paths"], likeliest)
    except DAMAGED:
        return None


def load_outputs(path: Path) -> Outputs | None:
    """Return what the file of a multilabel task or a regression contains; None if it is missing, damaged or of another task."""
    try:
        with open_regular(path) as file:
            _refuse_bomb(file)
            with np.load(file, allow_pickle=False) as data:
                return _checked_outputs(data["step"], data["outputs"], data["targets"], data["paths"])
    except DAMAGED:
        return None


def images_key(path: Path) -> str | None:
    """Return a text that is the same for files of the same validation images and labels; None if the file is missing or damaged.

    It is made of checksums that the archive has, so that nothing is decompressed.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            entries = {entry.filename: f"{entry.CRC:08x}/{entry.file_size}" for entry in archive.infolist()}
    except DAMAGED:
        return None
    names = [name for name in ("label.npy", "targets.npy", "paths.npy") if name in entries]
    return " ".join(f"{name} {entries[name]}" for name in names) if len(names) == 2 else None


def _refuse_bomb(file: BinaryIO) -> None:
    """Raise ValueError if the arrays are too large: a zip file of 1 MB can hold 1 GB."""
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > MOST_BYTES:
        raise ValueError(f"{size} bytes")
    file.seek(0)


def _checked_likeliest(data: Any, images: int) -> Likeliest:
    """Return the probabilities in the file. Raise ValueError if they are not those of ``images`` images."""
    classes, probabilities = data["classes"], data["probabilities"]
    if (classes.dtype.kind, probabilities.dtype) != ("i", np.float16):
        raise ValueError("neither classes nor probabilities")
    if classes.ndim != 2 or classes.shape != probabilities.shape or len(classes) != images:
        raise ValueError("not as many probabilities as images")
    if classes.size and not 0 <= int(classes.min()) <= int(classes.max()) < MOST_CLASSES:
        raise ValueError("no class has such an index")
    return Likeliest(classes.astype(np.int32), probabilities)


def _checked_outputs(step: Any, outputs: Any, targets: Any, paths: Any) -> Outputs:
    """Return the content of the file. Raise ValueError if its arrays do not fit."""
    for numbers in (outputs, targets):
        if numbers.ndim != 2 or numbers.dtype.kind != "f" or numbers.shape != outputs.shape:
            raise ValueError("not one row of numbers for each image")
    if paths.ndim != 1 or paths.dtype.kind != "U" or len(paths) not in (0, len(outputs)):
        raise ValueError("not one path for each image")
    return Outputs(int(step), outputs.astype(np.float32), targets.astype(np.float32), paths.tolist())


def _checked(step: Any, pred: Any, label: Any, paths: Any, likeliest: Likeliest | None) -> Predictions:
    """Return the content of the file. Raise ValueError if its arrays do not fit, or hold no class indices."""
    for numbers in (pred, label):
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or len(numbers) != len(pred):
            raise ValueError("not one class index for each image")
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < MOST_CLASSES:
            raise ValueError("no class has such an index")
    if paths.ndim != 1 or paths.dtype.kind != "U" or len(paths) not in (0, len(pred)):
        raise ValueError("not one path for each image")
    return Predictions(int(step), pred.astype(np.int32), label.astype(np.int32), paths.tolist(), likeliest)


def confusion_KK(predictions: Predictions, classes: int) -> Ints:
    """Return the number of images for each ``[label, prediction]``: int [classes, classes]."""
    flat = np.bincount(predictions.label_N.astype(np.int64) * classes + predictions.pred_N, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int32)
