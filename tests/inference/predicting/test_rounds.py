"""Batches in the order of the files; ``test_predict_images.py`` runs them on two ranks."""

from pathlib import Path

import numpy as np
import pytest

from dist_train.distributed.group import Dist
from dist_train.errors import DataError
from dist_train.inference.load_run import load_run
from dist_train.inference.predicting import rounds
from dist_train.inference.predicting.rounds import Rounds
from dist_train.inference.predictor import Predictor


def test_what_a_single_rank_yields(path: Path, image_folder: Path) -> None:
    run = load_run(path, device="cpu")
    predictor = Predictor(run.config, run.network, run.classes, run.device, run.rules)
    files = sorted((image_folder / "val").rglob("*.png"))[:5]
    found = list(Rounds(run.config.data, predictor, None, 2, Dist.alone())(files))
    assert [[len(each.outputs) for each in batches] for batches in found] == [[2], [2], [1]]
    assert all(each.embeddings is None and not each.errors for batches in found for each in batches)
    expected = [one.outputs.numpy() for one in run.predict(files, batch_size=2)]
    assert np.array_equal(np.concatenate([each.outputs for (each,) in found]), expected)
    assert list(Rounds(run.config.data, predictor, None, 2, Dist.alone())([])) == []


def test_the_error_of_one_rank_is_raised_by_all() -> None:
    error = DataError("no batch came")
    error.of_one_rank = True
    with pytest.raises(DataError, match="no batch came"):
        rounds._or_raise([None, error])
    assert not error.of_one_rank
