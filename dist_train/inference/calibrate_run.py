"""The command ``python -m dist_train calibrate``: fit temperature and thresholds on the validation set of a run."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dist_train.checkpoint.digests import ALGORITHM, digest_of
from dist_train.data.index import evaluation_index
from dist_train.distributed.group import joined
from dist_train.distributed.stop import StopRequest
from dist_train.errors import EXIT_DONE, EXIT_STOPPED, ConfigError
from dist_train.evaluation.activation import activated, inverted
from dist_train.evaluation.calibration import (
    HOTTEST,
    USUAL_THRESHOLD,
    Calibration,
    cross_fitted,
    fit_temperature,
    fit_thresholds,
)
from dist_train.evaluation.metric_functions.ranking import calibration_error_of
from dist_train.evaluation.metrics import Evaluation
from dist_train.evaluation.views import described
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.inference.score import score
from dist_train.run.folder import RunDir
from dist_train.run.saved_config import Which, run_config
from dist_train.system.foreign_text import printable
from dist_train.system.terminal import log_to_console

FEWEST = 20
"""Validation images. Fewer say nothing about probabilities."""


def calibrate_run(path: Path, which: Which, overrides: Sequence[str], trust: bool) -> int:
    """Fit on the validation set, write ``calibration.json`` into the run folder, and print what it changes.

    Under torchrun the ranks share the evaluation.

    Returns:
        The exit code.

    Raises:
        ConfigError: a regression has no probabilities; or there are too few images, or a NaN among the outputs,
            or the run folder cannot be written.
    """
    cfg = run_config(path, overrides)
    if cfg.data.task == "regression":
        raise ConfigError(f"{path} is a regression: it has no probabilities to calibrate")
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{RunDir(path).calibration} cannot be written, and a calibration is kept in the folder of its run: get the right "
            "to write there, or calibrate a copy of the folder"
        )
    with joined(cfg.distributed.automatic()) as group:
        log_to_console(group.rank)
        with group.together():
            run = open_run(path, which, group.device, overrides=overrides, trust=trust)
        index = group.from_main(lambda: evaluation_index(cfg.data, "val", run.classes, strict=False))
        with StopRequest(group) as stop:
            found = score(cfg, run.network, index.with_rules(run.rules), group, stop, keep=True)
        if found is None:
            return EXIT_STOPPED
        if group.is_main:
            _fit(run, found)
    return EXIT_DONE


def _fit(run: OpenedRun, found: Evaluation) -> None:
    assert found.outputs is not None
    task, outputs = found.task, inverted(found.task, found.outputs)
    if len(outputs) < FEWEST:
        raise ConfigError(f"{run.folder.path} has {len(outputs)} validation images: a calibration needs {FEWEST}")
    if not outputs.isfinite().all():
        raise ConfigError(f"{run.folder.path}: the model's outputs are not finite; train it again")
    heat = fit_temperature(task, outputs, found.labels)
    thresholds: list[float] = []
    if task == "multilabel":
        thresholds = fit_thresholds(activated(task, outputs / heat).numpy(), found.labels.numpy()).tolist()
    weights = digest_of(run.weights, ALGORITHM)
    Calibration(heat, tuple(thresholds), described(run.config.eval.tta), weights).write(run.folder.calibration)
    _report(run, found, heat, thresholds)


def _report(run: OpenedRun, found: Evaluation, heat: float, thresholds: list[float]) -> None:
    """Print temperature and thresholds, and the scores of images that the fit has not seen (5 parts)."""
    assert found.outputs is not None
    print(f"temperature {heat:.4g} ({'overconfident' if heat > 1 else 'underconfident'} before)")
    if not 1.2 / HOTTEST < heat < HOTTEST / 1.2:
        print("this is the bound: the model makes no error on its validation set, or knows nothing about it")
    after, decisions = cross_fitted(found.task, inverted(found.task, found.outputs), found.labels)
    before = found.outputs
    if found.task == "classification":
        print(
            _line("expected calibration error", " %", [calibration_error_of(p, found.labels) for p in (before, after)])
        )
    print(_line("loss", "", [_loss(found, probabilities) for probabilities in (before, after)]))
    if decisions is not None:
        labels = found.labels.numpy() > 0
        usual = before.numpy() > USUAL_THRESHOLD
        print(_line("macro F1", " %", [_macro_f1(decided, labels) for decided in (usual, decisions)]))
        for name, value in zip(run.classes, thresholds, strict=True):
            print(f"  {printable(name)}: label from a probability of {value:.3f}")
    print(f"wrote {run.folder.calibration}; predict, export and load_run use it")


def _line(what: str, unit: str, values: list[float]) -> str:
    before, after = values
    return f"{what}: {before:.4g}{unit} before, {after:.4g}{unit} after (each image judged by a fit without it)"


def _loss(found: Evaluation, probabilities_NK: torch.Tensor) -> float:
    chosen = probabilities_NK.double().clamp(1e-12, 1)
    if found.labels.ndim == 1:
        return float(-chosen[torch.arange(len(chosen)), found.labels].log().mean())
    return float(torch.nn.functional.binary_cross_entropy(chosen, found.labels.double()))


def _macro_f1(decided_NK: np.ndarray, labels_NK: np.ndarray) -> float:
    """Return the mean F1 in percent over the labels that an image has, or that are predicted."""
    hits = (decided_NK & labels_NK).sum(0)
    total = decided_NK.sum(0) + labels_NK.sum(0)
    return 100 * float((2 * hits[total > 0] / total[total > 0]).mean())
