"""Batches of files, in which one that cannot be read is black and named."""

from pathlib import Path

import numpy as np

from dist_train.inference.load_run import load_run
from dist_train.inference.predicting.photos import Photos, errors_in


def test_a_batch_of_files(path: Path, image_folder: Path, tmp_path: Path) -> None:
    run = load_run(path, device="cpu")
    good, bad = image_folder / "val" / "class_a" / "000.png", tmp_path / "bad\udcff.png"
    photos = Photos([good, bad], run.transform)
    assert (len(photos), photos.name(1), photos.image_bytes) == (2, str(bad), 32 * 32 * 3)
    pixels, errors = photos.__getitems__([(0, 1), (0, 0)])
    assert np.array_equal(pixels[1], run.transform.pixels(good))
    assert not pixels[0].any()
    assert errors_in(errors) == {0: f"cannot read the image {bad}: No such file or directory"}
