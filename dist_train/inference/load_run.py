"""A trained run in a Python program: predict images and evaluate data with its model."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dist_train.data.formats.base import suffixes_of
from dist_train.data.loader import end_loaders
from dist_train.distributed.group import Dist
from dist_train.distributed.stop import StopRequest
from dist_train.errors import DataError
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.inference.predictor import ImageTransform, Prediction, Predictor, Source, images_of
from dist_train.inference.score import check_classes, data_of_run, index_of, score
from dist_train.learning.algorithms import restored_algorithms
from dist_train.model.backbones import GivenModel
from dist_train.run.saved_config import Which
from dist_train.seeding import restored_generators


class Run(OpenedRun):
    """A run and its model, for Python programs; see ``OpenedRun`` for its attributes."""

    @cached_property
    def transform(self) -> ImageTransform:
        """Return the evaluation's transform: from a file or a PIL image to the model's input, float32 [C, H, W] on the CPU."""
        return ImageTransform(self.config, self.network, self.rules)

    def predict(self, images: Source | Iterable[Source], batch_size: int = 32) -> list[Prediction]:
        """Predict files, PIL images, and all images in folders, in the given order.

        Raises:
            DataError: an image cannot be read.
        """
        with restored_algorithms():
            sources = images_of(images, suffixes_of(self.config.data))
            return [_or_raise(found) for found in Predictor.of(self)(sources, batch_size)]

    def evaluate(self, data: Any = None) -> dict[str, float]:
        """Evaluate in this process. The result equals that of ``python -m dist_train.evaluate``.

        Args:
            data: see ``index_of``; None means the run's own validation set.

        Returns:
            Metrics by name; shares are in percent.

        Raises:
            ConfigError, DataError: the data is missing, or has other classes.
        """
        with data_of_run(self.folder) if data is None else nullcontext():
            index = index_of(self.config, self.classes, data).with_rules(self.rules)
        check_classes(self.classes, index, str(self.folder.path))
        group = Dist.alone(self.device)
        try:
            with restored_algorithms(), restored_generators():
                found = score(self.config, self.network, index, group, StopRequest(group))
        finally:
            end_loaders()
        assert found is not None  # this StopRequest never stops, since it watches no signals and no time
        return found.scores


def load_run(
    path: str | Path,
    weights: Which = "best",
    device: torch.device | str | None = None,
    model: GivenModel | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
) -> Run:
    """Build the model of a run and load the run's weights.

    Args:
        weights: "best" exist after the first evaluation of a run, "last" after its end.
        device: None means the first GPU, or the CPU if there is no GPU.
        model: needed if the run was trained with a model from Python code: a module, or a callable that takes K and
            returns one.
        overrides: ``key.path=value``, which replace values of the run's config.
        trust: run code that the config names and that lies in or under the run folder. Other code that the config names
            is found on Python's search path: the user's own, which always runs.

    Raises:
        ConfigError: the path is not a run folder, the weights are missing, they do not fit the model, or the run names
            code that lies in its own folder and is not trusted.
    """
    run = open_run(path, weights, device, model, overrides, trust)
    return Run(run.folder, run.config, run.classes, run.network, run.device, run.weights)


def _or_raise(found: Prediction | DataError) -> Prediction:
    if isinstance(found, DataError):
        raise found
    return found
