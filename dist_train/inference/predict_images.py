"""The command ``python -m dist_train.predict``: predict images and write CSV."""

import csv
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from dist_train.data.formats.base import suffixes_of
from dist_train.errors import EXIT_DONE, EXIT_USER, DataError
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.inference.predictor import Prediction, Predictor, images_of
from dist_train.run.saved_config import Which, run_config
from dist_train.system.foreign_text import csv_cell, printable
from dist_train.system.terminal import check_output, print_any_name, writing_output


def predict_images(
    path: Path, images: Sequence[Path], which: Which, out: Path | None, batch_size: int, trust: bool = False
) -> int:
    """Predict files and folders, in the given order, and write CSV.

    Returns:
        The exit code: 2 if an image could not be read.

    Raises:
        ConfigError, DataError: the run has no weights, or there are no images.
    """
    files = list(images_of(images, suffixes_of(run_config(path).data)))
    run = open_run(path, which, trust=trust)
    predictor = Predictor(run.config, run.network, run.classes, run.device, run.rules, run.calibration)
    unreadable: list[DataError] = []
    with _opened(out) as file:
        table = csv.writer(file)
        cell = _shown if file.isatty() else csv_cell
        table.writerow(map(cell, _header(run)))
        for found in predictor(files, batch_size):
            if isinstance(found, DataError):
                unreadable.append(found)
            else:
                table.writerow(map(cell, [found.image, *_fields(run, found)]))
    for reason in unreadable:
        print(f"error: {printable(reason)}", file=sys.stderr)
    return EXIT_USER if unreadable else EXIT_DONE


def _shown(value: Any) -> str:
    """Return a value for a terminal, which would obey what a file's name may hold."""
    return printable(csv_cell(value))


def _opened(out: Path | None) -> AbstractContextManager[TextIO]:
    if out is None:
        print_any_name()
        return nullcontext(sys.stdout)
    check_output("--out", out)
    with writing_output("--out", out):
        return open(out, "w", newline="", encoding="utf-8", errors="surrogateescape")


def _header(run: OpenedRun) -> list[str]:
    match run.config.data.task:
        case "classification":
            return ["path", "prediction", "probability", *run.classes]
        case "multilabel":
            return ["path", "predictions", *run.classes]
        case _:
            return ["path", *run.classes]


def _fields(run: OpenedRun, found: Prediction) -> list[Any]:
    numbers = [f"{value:.6g}" for value in found.outputs.tolist()]
    match found.task:
        case "classification":
            return [found.label, numbers[int(found.outputs.argmax())], *numbers]
        case "multilabel":
            return [run.config.data.csv.label_separator.join(found.labels), *numbers]
        case _:
            return numbers
