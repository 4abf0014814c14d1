"""The command ``python -m dist_train.predict``: predict images and write a table."""

import sys
from collections.abc import Sequence
from pathlib import Path

from dist_train.data.formats.base import suffixes_of
from dist_train.errors import EXIT_DONE, EXIT_USER, DataError
from dist_train.inference.open_run import open_run
from dist_train.inference.predicting.tables import opened_table
from dist_train.inference.predictor import Predictor, images_of
from dist_train.run.saved_config import Which, run_config
from dist_train.system.foreign_text import printable


def predict_images(
    path: Path, images: Sequence[Path], which: Which, out: Path | None, batch_size: int, trust: bool = False
) -> int:
    """Predict files and folders, in the given order, and write CSV or parquet.

    Returns:
        The exit code: 2 if an image could not be read.

    Raises:
        ConfigError, DataError: the run has no weights, or there are no images.
    """
    files = list(images_of(images, suffixes_of(run_config(path).data)))
    run = open_run(path, which, trust=trust)
    predictor = Predictor(run.config, run.network, run.classes, run.device, run.rules, run.calibration)
    unreadable: list[DataError] = []
    with opened_table(out, run.config.data.task, run.classes, run.config.data.csv.label_separator) as add:
        for found in predictor(files, batch_size):
            if isinstance(found, DataError):
                unreadable.append(found)
            else:
                add(found)
    for reason in unreadable:
        print(f"error: {printable(reason)}", file=sys.stderr)
    return EXIT_USER if unreadable else EXIT_DONE
