"""Open a run folder: its config and its model with its weights.

For inference, only ``open_run`` imports the user code that a run's config names.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from torch import nn

from dist_train.checkpoint.format import read_weights
from dist_train.config.load import load_config
from dist_train.config.schema import Config
from dist_train.data.decode_rules import rules_of
from dist_train.data.decoding.rules import DecodeRules
from dist_train.errors import ConfigError
from dist_train.model.backbones import GivenModel
from dist_train.model.build import build_model
from dist_train.model.network import Network
from dist_train.model.weights import load_weights
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, load_result
from dist_train.seeding import restored_generators
from dist_train.system.files import read_json

Which = Literal["best", "last"]


class OpenedRun:
    """A run and its model, for commands.

    Attributes:
        folder: the paths of the run folder.
        config: the config of the run.
        classes: the names of the model's outputs.
        network: the model and the images that it expects.
        device: the device of the model.
    """

    def __init__(self, folder: RunDir, cfg: Config, classes: list[str], network: Network, device: torch.device) -> None:
        self.folder, self.config, self.classes = folder, cfg, classes
        self.network, self.device = network, device

    @property
    def model(self) -> nn.Module:
        """Return the model, in eval mode. It maps images float32 [B, 3, S, S] on ``device`` to logits or numbers [B, K]."""
        return self.network.module

    @cached_property
    def rules(self) -> DecodeRules:
        """Return how training decoded its images; evaluation and prediction decode in the same way."""
        return rules_of(self.config.data, self.folder)

    @property
    def result(self) -> Result:
        """Return the current content of ``result.json``."""
        return load_result(self.folder)


def run_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the config in a run folder.

    Args:
        overrides: ``key.path=value``, which replace values of the config.

    Raises:
        ConfigError: the path is not a run folder, or an override is wrong.
    """
    if not RunDir(path).config.is_file():
        raise ConfigError(f"{path} is not a run folder: it has no {RunDir(path).config.name}; give the folder of a run")
    try:
        cfg = load_config(RunDir(path).config, of_a_run=True)
    except ConfigError as error:
        raise ConfigError(f"this version cannot read {RunDir(path).config}: {error}") from None
    return load_config(RunDir(path).config, list(overrides), of_a_run=True) if overrides else cfg


def open_run(
    path: str | Path,
    weights: Which = "best",
    device: torch.device | str | None = None,
    model: GivenModel | None = None,
    overrides: Sequence[str] = (),
) -> OpenedRun:
    """Build the model of a run and load the run's weights; ``load_run.load_run`` describes the arguments.

    Raises:
        ConfigError: the path is not a run folder, the weights are missing, or they do not fit the model.
    """
    folder, cfg = RunDir(Path(path)), run_config(Path(path), overrides)
    file = folder.best if weights == "best" else folder.last
    classes = read_json(folder.classes)
    if not file.is_file() or not classes:
        raise ConfigError(
            f"{path} has no {file.name if classes else folder.classes.name}: the best weights exist after the first "
            "evaluation of a run, the last weights after its end; train the run further"
        )
    _same_model(folder, model)
    with restored_generators():
        network = build_model(cfg.model, len(classes), cfg.data.image_size, load=False, given=model)
    try:
        load_own(network, file)
    except RuntimeError as error:
        raise ConfigError(f"{file} does not fit the model of the run: {str(error).splitlines()[0]}") from None
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    network.module.to(place).eval()
    return OpenedRun(folder, cfg, classes, network, place)


def load_own(network: Network, file: Path) -> None:
    """Load weights that a run published, with the extra state of its modules.

    Raises:
        RuntimeError: they do not fit the model.
    """
    try:
        weights = read_weights(file)
    except (OSError, SafetensorError):
        weights = load_weights(file)  # says what is wrong with the file
    if weights.keys() != network.module.state_dict().keys():
        # A model may register buffers and find shapes in its first pass.
        size = network.image_size
        with restored_generators(), torch.no_grad(), suppress(Exception):
            network.module.eval()(torch.zeros((1, 3, size, size)))
    network.module.load_state_dict(weights)


def _same_model(folder: RunDir, model: GivenModel | None) -> None:
    """Raise ConfigError if the run was trained with a model from Python code and none is given.

    The name of such a model is in the manifests of the run's checkpoints, not in its config.
    """
    for path in sorted(folder.checkpoints.glob("step_*/manifest.json"))[-1:]:
        name = read_json(path, default={}).get("config", {}).get("given.model")
        if name is not None and model is None:
            raise ConfigError(
                f"{folder.path} was trained with a model from Python code ({name}): pass it again, "
                f'dist_train.load_run("{folder.path}", model=...)'
            )
