"""What a prediction writes: a table, and embeddings beside it or in it. Only rank 0 writes."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch

from dist_train.inference.predicting.npy_rows import AddRow, opened_npy
from dist_train.inference.predicting.places import Places
from dist_train.inference.predicting.tables import Add, opened_table
from dist_train.system.foreign_text import printable
from dist_train.system.progress import Progress

if TYPE_CHECKING:
    from dist_train.inference.open_run import OpenedRun
    from dist_train.inference.predicting.rounds import Outcome
    from dist_train.inference.predictor import Predictor, Source


class Written:
    """The rows of a prediction, on rank 0. The files appear when all images are predicted, or not at all.

    Args:
        images: all images, in the order in which their outcomes come.
        width: E of the embeddings; 0 if they are not asked for.

    Attributes:
        failed: the error of stdout, if it takes no more rows: its reader may have ended.
    """

    def __init__(self, predictor: "Predictor", images: "Sequence[Source]", places: Places, width: int) -> None:
        self._predictor, self._images, self._places, self._width = predictor, iter(images), places, width
        self._progress = Progress("predicting", "images", len(images))
        self._add_row: AddRow | None = None
        self._add: Add
        self.failed: OSError | None = None

    def open(self, run: "OpenedRun", until: ExitStack) -> None:
        """Open the files; they get their names when ``until`` is closed without an error.

        Raises:
            ConfigError: a file cannot be written.
        """
        table, npy, data = self._places.table, self._places.embeddings, run.config.data
        column = self._width if self._places.in_table else 0
        self._add = until.enter_context(opened_table(table, data.task, run.classes, data.csv.label_separator, column))
        if npy and not column:
            self._add_row = until.enter_context(opened_npy("--embeddings", npy, self._width))

    def write(self, found: "Sequence[Outcome]") -> bool:
        """Add the rows of batches; name the images that cannot be read. Return whether there may be more."""
        try:
            for outcome in found:
                self._write(outcome)
        except OSError as error:  # of stdout: those of files are a ConfigError
            self.failed = error
        return self.failed is None

    def _write(self, outcome: "Outcome") -> None:
        for place, outputs_K in enumerate(outcome.outputs):
            image = next(self._images)
            self._progress.add()
            if place in outcome.errors:
                print(f"error: {printable(outcome.errors[place])}", file=sys.stderr)
                continue
            row_E = None if outcome.embeddings is None else outcome.embeddings[place]
            self._add(self._predictor.prediction(image, torch.from_numpy(outputs_K)), row_E)
            if self._add_row and row_E is not None:
                self._add_row(row_E)
