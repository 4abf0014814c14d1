"""``predictions.npz``: written by a run, read by W&B's tables and by compare."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from dist_train.run.predictions import (
    Likeliest,
    Predictions,
    confusion_KK,
    load_outputs,
    load_predictions,
    pack_arrays,
    pack_predictions,
)


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    path.write_bytes(
        pack_predictions(Predictions(7, np.array([1, 0, 2]), np.array([1, 1, 2]), ["a.png", "ü b.png", "c.png"]))
    )
    found = load_predictions(path)
    assert found is not None
    assert (found.step, found.pred_N.tolist(), found.label_N.tolist()) == (7, [1, 0, 2], [1, 1, 2])
    assert found.paths == ["a.png", "ü b.png", "c.png"]
    assert (found.pred_N.dtype, found.label_N.dtype) == (np.int32, np.int32)


def test_probabilities_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    kept = Likeliest.of(np.array([[2, 0, 0.75, 0.25], [1, 2, 1.0, 0.0]], np.float32))
    pred, label = np.array([2, 1]), np.array([0, 1])
    path.write_bytes(pack_predictions(Predictions(7, pred, label, [], kept)))
    found = load_predictions(path)
    assert found is not None
    assert found.likeliest is not None
    assert found.likeliest.classes_NT.tolist() == [[2, 0], [1, 2]]
    assert found.likeliest.probabilities_NT.tolist() == [[0.75, 0.25], [1.0, 0.0]]
    assert found.likeliest.probabilities_NT.dtype == np.float16


@pytest.mark.parametrize(
    ("classes", "probabilities"),
    [([[0, 1]], [[0.5, 0.5]]), ([[0], [-1]], [[0.5], [0.5]]), ([[0], [1]], [[0.5, 0.5], [0.5, 0.5]]), ([0, 1], [1, 1])],
)
def test_probabilities_that_do_not_fit_are_damage(tmp_path: Path, classes: object, probabilities: object) -> None:
    path = tmp_path / "predictions.npz"
    kept = Likeliest(np.array(classes, np.int32), np.array(probabilities, np.float16))
    path.write_bytes(pack_predictions(Predictions(7, np.array([1, 0]), np.array([1, 1]), [], kept)))
    assert load_predictions(path) is None


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more", b"text"])
def test_damage_is_no_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "predictions.npz"
    assert load_predictions(path) is None
    path.write_bytes(content)
    assert load_predictions(path) is None


def test_a_flipped_byte_anywhere_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    label = np.arange(40, dtype=np.int32) % 4
    path.write_bytes(pack_predictions(Predictions(3, label, label, [f"{i}.png" for i in range(40)])))
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        load_predictions(path)


def test_lengths_that_do_not_fit_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    path.write_bytes(pack_predictions(Predictions(7, np.array([1, 0]), np.array([1]), [])))
    assert load_predictions(path) is None


def test_the_confusion_matrix_has_labels_as_rows() -> None:
    predictions = Predictions(1, np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]), [])
    assert confusion_KK(predictions, 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_numbers_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    numbers = {"outputs": np.array([[0.5, 1]], np.float32), "targets": np.array([[0, 1]], np.float32)}
    path.write_bytes(pack_arrays(7, ["ü.png"], **numbers))
    found = load_outputs(path)
    assert found is not None
    assert (found.step, found.outputs_NK.tolist(), found.targets_NK.tolist()) == (7, [[0.5, 1]], [[0, 1]])
    assert found.paths == ["ü.png"]
    assert load_predictions(path) is None
    path.write_bytes(pack_arrays(7, [], outputs=numbers["outputs"], targets=np.zeros((2, 2))))
    assert load_outputs(path) is None


def test_only_paths_are_compressed(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    path.write_bytes(pack_arrays(7, ["a" * 50] * 100, pred=np.zeros(100, np.int32)))
    with zipfile.ZipFile(path) as archive:
        packed = {entry.filename: entry.compress_size < entry.file_size for entry in archive.infolist()}
    assert packed == {"step.npy": False, "pred.npy": False, "paths.npy": True}
