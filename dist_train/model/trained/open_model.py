"""The model of a run folder with the weights that the run published.

Everything that uses a trained run begins here: the place that decides whether code that the run's config names may run.
"""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from dist_train.checkpoint.format import read_weights
from dist_train.errors import ConfigError
from dist_train.model.backbones import GivenModel
from dist_train.model.build import build_model
from dist_train.model.network import Network
from dist_train.model.weights import load_weights
from dist_train.run.attempts import objects_from_code, trained_with
from dist_train.run.folder import RunDir, must_be_readable
from dist_train.run.named_code import digest_of, named_code, refuse_code_of_the_run
from dist_train.system.files import read_json

if TYPE_CHECKING:
    from dist_train.config.schema import Config
    from dist_train.run.saved_config import Which

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """A model of a run, on the CPU.

    Attributes:
        classes: the names of its outputs.
        file: the file of its weights.
    """

    classes: list[str]
    network: Network
    file: Path


def open_model(
    folder: RunDir, cfg: "Config", weights: "Which" = "best", model: GivenModel | None = None, trust: bool = False
) -> TrainedModel:
    """Build the model of a run and load the run's weights. Draws random numbers.

    Args:
        cfg: the config of the run (``saved_config.run_config``).
        model: of a run that was trained with a model from Python code: a module, or a callable that takes K.
        trust: run code that came with the run folder, if its config names it.

    Raises:
        ConfigError: the weights are missing, they do not fit the model, or the run names
            code that lies in its own folder and is not trusted.
    """
    file = folder.best if weights == "best" else folder.last
    for needed in (file, folder.classes):
        must_be_readable(needed)
    classes = read_json(folder.classes, default=[])
    if not all(isinstance(name, str) for name in classes):
        raise ConfigError(f"{folder.classes} is damaged: it must be a list of names; restore it from a backup")
    if not file.is_file() or not classes:
        raise ConfigError(
            f"{folder.path} has no {file.name if classes else folder.classes.name}: the best weights exist after the first "
            "evaluation of a run, the last weights after its end; train the run further"
        )
    _same_model(folder, model)
    _judge_code(folder, cfg, trust)
    channels = cfg.data.channels
    network = build_model(cfg.model, len(classes), cfg.data.image_size, False, model, channels)
    try:
        load_own(network, file)
    except RuntimeError as error:
        raise ConfigError(f"{file} does not fit the model of the run: {str(error).splitlines()[0]}") from None
    return TrainedModel(classes, network, file)


def _judge_code(folder: RunDir, cfg: "Config", trust: bool) -> None:
    """Refuse code that came with the run folder; note other code that has changed since the run trained with it.

    Code elsewhere on Python's search path is the user's own.

    Raises:
        ConfigError: the config names code that came with the run folder, and ``trust`` is false.
    """
    if not trust:
        refuse_code_of_the_run(folder.path, cfg)
    then = trained_with(folder)
    for code in named_code(cfg):
        if then.get(code.spec) not in (None, digest_of(code)):
            log.warning(
                "`%s` (%s) has changed since %s was trained: its results may differ", code.key, code.spec, folder.path
            )


def load_own(network: Network, file: Path) -> None:
    """Load weights that a run published, with the extra state of its modules. May draw random numbers.

    Raises:
        RuntimeError: they do not fit the model.
    """
    try:
        weights = read_weights(file)
    except (OSError, SafetensorError):
        weights = load_weights(file)  # says what is wrong with the file
    if weights.keys() != network.module.state_dict().keys():
        # A model may register buffers and find shapes in its first pass.
        with torch.no_grad(), suppress(Exception):
            network.module.eval()(torch.zeros(network.blank_shape(1)))
    network.module.load_state_dict(weights)


def _same_model(folder: RunDir, model: GivenModel | None) -> None:
    """Raise ConfigError if the run was trained with a model from Python code and none is given."""
    name = objects_from_code(folder).get("model")
    if name is not None and model is None:
        raise ConfigError(
            f"{folder.path} was trained with a model from Python code ({name}): pass it again, "
            f'dist_train.load_run("{folder.path}", model=...)'
        )
