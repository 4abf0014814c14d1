"""Score a model on a validation set: the code of ``Run.evaluate`` and of ``python -m dist_train.evaluate``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dist_train.config.schema import Config
from dist_train.data.index import DataIndex, labelled_folder, read_index
from dist_train.data.pipeline import open_data
from dist_train.distributed.group import Dist
from dist_train.distributed.stop import StopRequest
from dist_train.errors import ConfigError
from dist_train.evaluation.loop import evaluate
from dist_train.evaluation.metrics import Evaluation
from dist_train.learning.algorithms import set_algorithms
from dist_train.learning.precision import Precision
from dist_train.model.build import Network


def score(
    cfg: Config, network: Network, index: DataIndex, group: Dist, stop: StopRequest, keep: bool = False
) -> Evaluation | None:
    """Evaluate a model on the validation images of ``index``. Every rank must call it.

    Args:
        network: in eval mode, on the device of ``group``.
        keep: keep all probabilities of a classification.

    Returns:
        The outcome, the same on every rank and at any world size; None if the ranks agreed to stop.
    """
    set_algorithms(cfg, group.device)
    data = open_data(cfg, group, index, network, train=False)
    precision = Precision(cfg.train, group.device)
    return evaluate(network.module, data.validation, index, group, data.normalise, precision, stop, keep)


def check_classes(classes: list[str], index: DataIndex, what: str) -> None:
    """Check that a data set has the classes that a run has learnt.

    Raises:
        ConfigError: it has others.
    """
    if classes != index.classes:
        raise ConfigError(f"{what} learnt other classes than `data.root` ({index.root}) has now")


def index_of(cfg: Config, classes: list[str], data: Any = None) -> DataIndex:
    """Scan what a run shall be evaluated on.

    Args:
        classes: those that the run has learnt.
        data: None for the run's own validation set; a folder with a folder of images for each class; a folder laid
            out as ``data.format`` says; or a data set with ``len()``, ``[i]`` and ``targets``.

    Raises:
        ConfigError, DataError: it is not there, or not laid out like that, or has other classes.
    """
    if data is None:
        return read_index(cfg.data, Dist.alone())
    if not isinstance(data, str | Path):
        whole = cfg.data.model_copy(update={"val_fraction": None, "max_val_images": None})
        index = read_index(whole, Dist.alone(), (data, data))
        unnamed = not getattr(data, "classes", ()) and index.outputs <= len(classes)
        return replace(index, classes=classes) if unnamed else index
    if cfg.data.format == "imagefolder" and not (Path(data) / "train").is_dir():
        return labelled_folder(Path(data), classes)
    return read_index(cfg.data.model_copy(update={"root": str(data)}), Dist.alone())
