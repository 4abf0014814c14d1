"""Open a run folder for a command or a program: its config, its model with its weights on a device, its calibration."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from dist_train.checkpoint.digests import ALGORITHM, digest_of
from dist_train.config.schema import Config
from dist_train.data.augment.frame import evaluation_frame
from dist_train.data.decode_rules import rules_of
from dist_train.data.decoding.rules import DecodeRules
from dist_train.evaluation.calibration import Calibration, read_calibration
from dist_train.evaluation.views import described
from dist_train.inference.predicting.layout import faster_channels_last
from dist_train.model.backbones import GivenModel
from dist_train.model.network import Network
from dist_train.model.trained.open_model import open_model
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, load_result
from dist_train.run.saved_config import Which, run_config
from dist_train.seeding import restored_generators
from dist_train.system.program import program

log = logging.getLogger(__name__)


class OpenedRun:
    """A run and its model, for commands.

    Attributes:
        folder: the paths of the run folder.
        config: the config of the run.
        classes: the names of the model's outputs.
        network: the model and the images that it expects.
        device: the device of the model.
        weights: the file of its weights.
    """

    def __init__(
        self, folder: RunDir, cfg: Config, classes: list[str], network: Network, device: torch.device, weights: Path
    ) -> None:
        self.folder, self.config, self.classes = folder, cfg, classes
        self.network, self.device, self.weights = network, device, weights

    @property
    def model(self) -> nn.Module:
        """Return the model, in eval mode. It maps images float32 [B, C, H, W] on ``device`` to logits or numbers [B, K]."""
        return self.network.module

    @cached_property
    def rules(self) -> DecodeRules:
        """Return how training decoded its images; evaluation and prediction decode in the same way."""
        return rules_of(self.config.data, self.folder)

    @cached_property
    def channels_last(self) -> bool:
        """Return whether predictions use channels_last because it is faster. Tries the model on two blank images."""
        shape = self.network.blank_shape(2, evaluation_frame(self.config, self.network).size)
        return faster_channels_last(self.model, torch.zeros(shape, device=self.device))

    @cached_property
    def calibration(self) -> Calibration | None:
        """Return the temperature and the thresholds of these weights; None if none were fitted, with a warning if to others."""
        found = read_calibration(self.folder.calibration, len(self.classes))
        if not self.folder.calibration.exists():
            return None
        own = (digest_of(self.weights, ALGORITHM), described(self.config.eval.tta))
        if found and (found.weights, found.tta) == own:
            return found
        log.warning(
            "%s was fitted to other weights or another `eval.tta`, or is damaged, and is not used: run `%s` again",
            self.folder.calibration,
            f"{program('calibrate')} {self.folder.path}",
        )
        return None

    @property
    def result(self) -> Result:
        """Return the current content of ``result.json``."""
        return load_result(self.folder)


def open_run(
    path: str | Path,
    weights: Which = "best",
    device: torch.device | str | None = None,
    model: GivenModel | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
) -> OpenedRun:
    """Build the model of a run and load the run's weights; ``load_run.load_run`` describes the arguments.

    Raises:
        ConfigError: the path is not a run folder, the weights are missing, they do not fit the model, or the run names
            code that lies in its own folder and is not trusted.
    """
    folder, cfg = RunDir(Path(path)), run_config(Path(path), overrides)
    with restored_generators():
        found = open_model(folder, cfg, weights, model, trust)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    found.network.module.to(place).eval()
    return OpenedRun(folder, cfg, found.classes, found.network, place, found.file)
