"""A run that has weights to show, as ``evaluate``, ``predict`` and ``export`` take it up."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from dist_train.config import Config, load_config
from dist_train.errors import ConfigError
from dist_train.model.build import Network, build_model
from dist_train.model.weights import load_weights
from dist_train.run.folder import RunDir
from dist_train.system.files import read_json

Which = Literal["best", "last"]


@dataclass(frozen=True)
class Trained:
    """A run with its model in eval mode on ``device``. ``classes`` are names of the outputs."""

    run: RunDir
    cfg: Config
    classes: list[str]
    network: Network
    device: torch.device


def run_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The config that a run folder keeps, with ``key.path=value`` replaced.

    Raises:
        ConfigError: it is no run folder, or an override is wrong.
    """
    if not RunDir(path).config.is_file():
        raise ConfigError(f"{path} is no run folder: it has no {RunDir(path).config.name}")
    try:
        cfg = load_config(RunDir(path).config, of_a_run=True)
    except ConfigError as error:
        raise ConfigError(f"{RunDir(path).config} is none that this version writes: {error}") from None
    return load_config(RunDir(path).config, list(overrides), of_a_run=True) if overrides else cfg


def load_trained(path: Path, which: Which, device: torch.device, overrides: Sequence[str] = ()) -> Trained:
    """Build the model of a run and give it the run's weights.

    Args:
        overrides: see ``run_config``.

    Raises:
        ConfigError: it is no run folder, or has no such weights, or they do not fit.
    """
    run, cfg = RunDir(path), run_config(path, overrides)
    weights = run.best if which == "best" else run.last
    classes = read_json(run.classes)
    if not weights.is_file() or not classes:
        raise ConfigError(
            f"{path} has no {weights.name if classes else run.classes.name}: best weights appear with the first "
            "evaluation of a run, the last ones at its end"
        )
    network = build_model(cfg.model, len(classes), cfg.data.image_size, load=False)
    try:
        network.module.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        raise ConfigError(f"{weights} does not fit the model of the run: {str(error).splitlines()[0]}") from None
    network.module.to(device).eval()
    return Trained(run, cfg, classes, network, device)


def own_device() -> torch.device:
    """The device of a command that runs as one process."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
