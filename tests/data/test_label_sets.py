"""Sparse labels: the same values and texts as a dense array of 0 and 1."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from dist_train.config.sections.data import DataConfig
from dist_train.data.dataset import ImageDataset, View
from dist_train.data.decoding.picture import Decoded
from dist_train.data.formats.dataset_objects import given_data_sets
from dist_train.data.formats.images import GivenImages
from dist_train.data.index import scan
from dist_train.data.label_sets import LabelSets
from dist_train.data.split import Split

RNG = np.random.default_rng(0)
DENSE = (RNG.random((50, 7)) < 0.3).astype(np.float32)


def sparse(dense: np.ndarray) -> LabelSets:
    return LabelSets.of([np.flatnonzero(row).tolist() for row in dense], dense.shape[1])


@pytest.mark.parametrize(
    "places", [slice(None), slice(3, 40, 5), [4, 4, -1], [], np.arange(50) % 3 == 0, 7, np.array([[1, 2], [3, 4]])]
)
def test_places_are_those_of_a_dense_array(places: object) -> None:
    wanted = DENSE[places if not isinstance(places, list) else np.array(places, np.int64)]  # type: ignore[index]
    found = sparse(DENSE)[np.array(places, np.int64) if isinstance(places, list) else places]
    assert (found.dtype, found.shape) == (np.float32, wanted.shape)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dense", [DENSE, DENSE[:, :1], np.zeros((3, 4)), np.ones((2, 3)), DENSE[:0]])
def test_counts_and_texts(dense: np.ndarray) -> None:
    labels = sparse(dense)
    assert len(labels) == len(dense)
    assert labels.counts().tolist() == dense.sum(0).tolist()
    assert list(labels.texts(tuple)) == [str(tuple(row)).encode() for row in dense.tolist()]
    assert list(labels.texts(list)) == [str(row).encode() for row in dense.tolist()]


def test_a_batch_has_dense_labels_and_the_sets_travel() -> None:
    split = Split(np.array([b"x"] * 50), pickle.loads(pickle.dumps(sparse(DENSE))))
    view = View(lambda picture, _, target: np.copyto(target, picture.pixels()), (2, 2, 3))
    images = ImageDataset(split, "val", lambda _: Decoded(np.zeros((2, 2, 3), np.uint8)), {0: view}, 0, lambda *_: None)
    _, labels, indices = images.__getitems__([(0, 9), (0, 3)])
    assert indices.tolist() == [9, 3]
    np.testing.assert_array_equal(labels.numpy(), DENSE[[9, 3]])


@pytest.mark.parametrize("sets", [[[3]], [[-1]], [[1, 0]], [[1, 1]], [[0], [2, 1]]])
def test_numbers_that_are_no_label_sets_are_refused(sets: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="label"):
        LabelSets.of(sets, 3)


@pytest.mark.parametrize("starts", [[0, 2, 1, 3], [1, 1, 2, 3], [0, 1, 2, 4]])
def test_starts_that_do_not_fit_are_refused(starts: list[int]) -> None:
    with pytest.raises(ValueError, match="starts"):
        LabelSets(np.array(starts), np.array([0, 1, 2], np.int32), 3)


def test_a_row_of_zeros_and_ones_is_not_taken_for_numbers() -> None:
    with pytest.raises(TypeError):
        LabelSets.of([[0.0, 1.0]], 2)  # type: ignore[list-item]


class Held:
    """A data set object, with one label per image."""

    def __init__(self, images: int, labels: int) -> None:
        self.targets = np.zeros((images, labels), bool)
        self.targets[np.arange(images), np.arange(images) % labels] = True

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, place: int) -> tuple[None]:
        return (None,)


def test_the_fingerprint_of_an_object_is_that_of_its_dense_rows(tmp_path: Path) -> None:
    """The digest is the one of dense labels, by which runs are resumed."""
    cfg = DataConfig(format="csv", task="multilabel", root=str(tmp_path), val_fraction=0.2)
    index = scan(cfg, given_data_sets(cfg, GivenImages("made", str(tmp_path), Held(20, 4), None)))
    assert index.fingerprint.startswith("2100d8df915b847b")
    assert isinstance(index.train.labels, LabelSets)
    assert len(index.train.labels.numbers) == len(index.train), "one number for each label of an image"
    assert index.train.labels[:].sum(1).tolist() == [1.0] * len(index.train)
