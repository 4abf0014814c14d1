"""Open a run folder: its config and its model with its weights.

All commands and programs open a run by ``open_run``, which decides whether the code that the run's config names may run.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from dist_train.checkpoint.digests import ALGORITHM, digest_of
from dist_train.checkpoint.format import read_weights
from dist_train.config.schema import Config
from dist_train.data.decode_rules import rules_of
from dist_train.data.decoding.rules import DecodeRules
from dist_train.errors import ConfigError
from dist_train.evaluation.calibration import Calibration, read_calibration
from dist_train.evaluation.views import described
from dist_train.model.backbones import GivenModel
from dist_train.model.build import build_model
from dist_train.model.network import Network
from dist_train.model.weights import load_weights
from dist_train.run.attempts import trained_with
from dist_train.run.folder import RunDir
from dist_train.run.named_code import digest_of as digest_of_code
from dist_train.run.named_code import named_code, refuse_code_of_the_run
from dist_train.run.result import Result, load_result
from dist_train.run.saved_config import Which, run_config
from dist_train.seeding import restored_generators
from dist_train.system.files import read_json
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
        """Return the model, in eval mode. It maps images float32 [B, 3, S, S] on ``device`` to logits or numbers [B, K]."""
        return self.network.module

    @cached_property
    def rules(self) -> DecodeRules:
        """Return how training decoded its images; evaluation and prediction decode in the same way."""
        return rules_of(self.config.data, self.folder)

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
    file = folder.best if weights == "best" else folder.last
    classes = read_json(folder.classes, default=[])
    if not all(isinstance(name, str) for name in classes):
        raise ConfigError(f"{folder.classes} is damaged: it must be a list of names; restore it from a backup")
    if not file.is_file() or not classes:
        raise ConfigError(
            f"{path} has no {file.name if classes else folder.classes.name}: the best weights exist after the first "
            "evaluation of a run, the last weights after its end; train the run further"
        )
    _same_model(folder, model)
    _judge_code(folder, cfg, trust)
    with restored_generators():
        network = build_model(cfg.model, len(classes), cfg.data.image_size, load=False, given=model)
    try:
        load_own(network, file)
    except RuntimeError as error:
        raise ConfigError(f"{file} does not fit the model of the run: {str(error).splitlines()[0]}") from None
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    network.module.to(place).eval()
    return OpenedRun(folder, cfg, classes, network, place, file)


def _judge_code(folder: RunDir, cfg: Config, trust: bool) -> None:
    """Refuse code that came with the run folder; note other code that has changed since the run trained with it.

    Code elsewhere on Python's search path is the user's own.

    Raises:
        ConfigError: the config names code that came with the run folder, and ``trust`` is false.
    """
    if not trust:
        refuse_code_of_the_run(folder.path, cfg)
    then = trained_with(folder)
    for code in named_code(cfg):
        if then.get(code.spec) not in (None, digest_of_code(code)):
            log.warning(
                "`%s` (%s) has changed since %s was trained: its results may differ", code.key, code.spec, folder.path
            )


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
        config = read_json(path, default={}).get("config")
        name = config.get("given.model") if isinstance(config, dict) else None
        if name is not None and model is None:
            raise ConfigError(
                f"{folder.path} was trained with a model from Python code ({name}): pass it again, "
                f'dist_train.load_run("{folder.path}", model=...)'
            )
