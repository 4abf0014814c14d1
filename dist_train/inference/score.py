"""Score a model on a validation set. ``Run.evaluate`` and ``python -m dist_train.evaluate`` share this code."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dist_train.config.schema import Config
from dist_train.config.sections.data import CsvConfig
from dist_train.data.augment.frame import evaluation_frame
from dist_train.data.formats.class_names import few
from dist_train.data.index import DataIndex, evaluation_index
from dist_train.data.pipeline import open_data
from dist_train.data.stored.reuse import read_index
from dist_train.distributed.group import Dist
from dist_train.distributed.stop import StopRequest
from dist_train.errors import ConfigError, DataError
from dist_train.evaluation.loop import evaluate
from dist_train.evaluation.metrics import Evaluation, reported
from dist_train.evaluation.views import with_views
from dist_train.learning.algorithms import set_algorithms
from dist_train.learning.precision import Precision
from dist_train.model.network import Network
from dist_train.run.attempts import objects_from_code
from dist_train.run.folder import RunDir

log = logging.getLogger(__name__)

OF_ITS_OWN_DATA = ("val_fraction", "fold", "train_fraction", "shots", "sampling", "max_val_images")
"""Keys of ``data`` by which a run chose from its own images: nothing is chosen from data that are given for an evaluation."""


def score(
    cfg: Config, network: Network, index: DataIndex, group: Dist, stop: StopRequest, keep: bool = False
) -> Evaluation | None:
    """Evaluate a model on the validation images of ``index``. Every rank must call it.

    Args:
        network: the model in eval mode, on the device of ``group``.
        keep: keep the probabilities of all classes, for a classification task.

    Returns:
        The result, the same on every rank and at any world size; None if the ranks agreed to stop.

    Raises:
        DataError: more images than ``data.max_bad_share`` allows cannot be read, all ranks together.
    """
    set_algorithms(cfg, group.device)
    data = open_data(cfg, group, index, network, train=False)
    precision = Precision(cfg.train, group.device)
    metrics = reported(cfg.eval, index.task)
    sample = torch.zeros(network.blank_shape(1, evaluation_frame(cfg, network).size), device=group.device)
    module = with_views(network.module, cfg.eval.tta, index.task, sample)
    found = evaluate(module, data, precision, stop, metrics, keep)
    if found is not None:
        data.bad_images.check(group)
    return found


def check_classes(classes: list[str], index: DataIndex, what: str) -> None:
    """Check that a data set has the classes of a run.

    Raises:
        ConfigError: the classes differ; the message names the differences.
    """
    if classes != index.classes:
        more, fewer = (
            [name for name in a if name not in b] for a, b in ((index.classes, classes), (classes, index.classes))
        )
        differences = [f"{kind} {few(names)}" for kind, names in (("it has", more), ("it lacks", fewer)) if names]
        raise ConfigError(
            f"the data has other classes than {what}: {'; '.join(differences) or 'they are in another order'}"
        )


@contextmanager
def data_of_run(run: RunDir) -> Iterator[None]:
    """Add to an error of the data, in this block, that the run was trained on data sets from Python code, if it was."""
    try:
        yield
    except DataError as error:
        name = objects_from_code(run).get("data")
        if name is None:
            raise
        raise DataError(
            f"{error}; {run.path} was trained on data sets from Python code ({name}): pass one, "
            f'dist_train.load_run("{run.path}").evaluate(data)'
        ) from None


def index_of(cfg: Config, classes: list[str], data: Any = None) -> DataIndex:
    """Scan the data to evaluate a run on.

    Args:
        classes: the classes of the run. Images of other classes in a folder are skipped, with a warning.
        data: None for the run's own validation set; a folder with one sub-folder of images per class; a folder in the
            layout of ``data.format``; or a data set with ``len()``, ``[i]`` and ``targets``.

    Raises:
        ConfigError, DataError: the data does not exist, or has another layout.
    """
    whole: dict[str, Any] = dict.fromkeys(OF_ITS_OWN_DATA) | {"csv": CsvConfig()}
    if not (data is None or isinstance(data, str | Path)):
        index = read_index(cfg.data.model_copy(update=whole), Dist.alone(), (data, data))
        unnamed = not getattr(data, "classes", ()) and index.outputs <= len(classes)
        return replace(index, classes=classes) if unnamed else index
    update: dict[str, Any] = {} if data is None else {"root": str(data)}
    if data is not None and cfg.data.format == "imagefolder" and not (Path(data) / "train").is_dir():
        update |= whole
    index = evaluation_index(cfg.data.model_copy(update=update), "val", classes, strict=data is not None)
    for note in (*index.refused, *index.notes):
        log.warning("%s", note)
    return index
