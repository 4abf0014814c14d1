"""The command ``python -m dist_train.evaluate``: evaluate each run, and the ensemble of all."""

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dist_train.config.choice_table import Task
from dist_train.config.schema import Config
from dist_train.data.formats.base import Held
from dist_train.data.index import DataIndex, evaluation_index
from dist_train.distributed.group import Dist, joined
from dist_train.distributed.stop import StopRequest
from dist_train.errors import EXIT_DONE, EXIT_STOPPED, EXIT_USER, ConfigError, DataError, DistTrainError
from dist_train.evaluation.activation import mean_outputs
from dist_train.evaluation.metrics import Evaluation, SampleScores, reported
from dist_train.evaluation.out_of_fold import are_folds, name_of, united
from dist_train.evaluation.reports import class_table, confusion, describe_table, draw_confusion
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.inference.score import data_of_run, score
from dist_train.run.saved_config import Which, run_config
from dist_train.system.files import json_text
from dist_train.system.foreign_text import printable
from dist_train.system.terminal import (
    PICTURES,
    check_output,
    check_suffix,
    digits,
    log_to_console,
    print_any_name,
    report,
    written_whole,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """A run with its evaluation, and the data set that it was evaluated on."""

    path: Path
    outcome: Evaluation
    index: DataIndex


@dataclass(frozen=True)
class Request:
    """What the user asks to be evaluated.

    Attributes:
        several: several runs are asked for, though perhaps only one can be evaluated.
        folds: the runs were trained on different folds: each image is judged by the run that did not see it.
        which, overrides, split, trust: see ``evaluate_runs``.
    """

    which: Which
    overrides: Sequence[str]
    split: Held
    trust: bool
    several: bool
    folds: bool


def evaluate_runs(
    runs: Sequence[Path],
    which: Which,
    overrides: Sequence[str],
    json_file: Path | None,
    picture: Path | None,
    split: Held,
    trust: bool,
) -> int:
    """Evaluate each run; then the ensemble if there are several, or the out-of-fold score if they were trained on different
    folds. Rank 0 prints the results and writes the files.

    One of several runs that cannot be evaluated is reported and left out.

    Args:
        overrides: ``key.path=value``, which replace values of each run's config: for data that has moved, or other data.
        split: the validation or the test set.
        trust: run code that lies in the run folders, if their configs name it.

    Returns:
        The exit code: not 0 if a run was left out.

    Raises:
        ConfigError, DataError: the only run, or each of several, cannot be evaluated.
    """
    configs = _configs(runs, overrides)
    cfg = next(iter(configs.values()))
    folds = split == "val" and are_folds([each.data for each in configs.values()])
    asked = Request(which, overrides, split, trust, len(runs) > 1, folds)
    if picture:
        _can_draw(picture, cfg.data.task)
    for option, path in (("--json", json_file), ("--picture", picture)):
        if path:
            check_output(option, path)  # fail now, not after the evaluation
    print_any_name()
    # The strategy of the training does not matter here: one process is enough, and several share the work.
    with joined(cfg.distributed.automatic()) as group:
        log_to_console(group.rank)
        found: list[Evaluated] = []
        left_out: list[tuple[Path, ConfigError | DataError]] = []
        for path in runs:
            try:
                evaluated = _evaluated(path, asked, group, found[0].index if found else None)
            except (ConfigError, DataError) as error:  # the same one on all ranks
                left_out.append((path, error))
                continue
            if evaluated is None:
                return EXIT_STOPPED
            found.append(evaluated)
        if not found:
            raise ConfigError("\n".join(_lines(left_out))) if asked.several else left_out[0][1]
        if group.is_main:
            outcomes, index = _with_all_together(found, configs, folds)
            _report(outcomes, index, json_file, picture, asked.several)
        for line in _lines(left_out):
            report(ConfigError(line))
    return EXIT_USER if left_out else EXIT_DONE


def _with_all_together(
    found: list[Evaluated], configs: dict[Path, Config], folds: bool
) -> tuple[list[tuple[str, Evaluation]], DataIndex]:
    """Return the evaluation of each run by its name, and that of all together if there are several; and its data set.

    Args:
        folds: as in ``Request``.
    """
    outcomes = [(str(run.path), run.outcome) for run in found]
    index = found[0].index
    metrics = reported(next(iter(configs.values())).eval, index.task)
    if folds:
        together, index = united([(run.outcome, run.index) for run in found], metrics)
        outcomes.append((name_of([configs[run.path].data for run in found]), together))
    elif len(outcomes) > 1:
        each = [outcome for _, outcome in outcomes]
        outcomes.append((f"ensemble of {len(each)}", ensemble(each, index, metrics)))
    return outcomes, index


def _configs(runs: Sequence[Path], overrides: Sequence[str]) -> dict[Path, Config]:
    """Return the configs of the runs that can be read; raise the first error if there are none."""
    found, errors = {}, []
    for path in runs:
        try:
            found[path] = run_config(path, overrides)
        except ConfigError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found


def _lines(left_out: list[tuple[Path, ConfigError | DataError]]) -> list[str]:
    return [f"{path} is left out: {error}" for path, error in left_out]


def _can_draw(picture: Path, task: Task) -> None:
    if task != "classification":
        raise ConfigError(f"--picture draws a confusion matrix, which a {task} task does not have; remove --picture")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--picture needs matplotlib: pip install matplotlib")
    check_suffix("--picture", picture, PICTURES)


def _evaluated(path: Path, asked: Request, group: Dist, expected: DataIndex | None) -> Evaluated | None:
    """Evaluate one run; None if a signal stopped it.

    Args:
        expected: the data set that the run must have, or with ``folds`` its classes; None allows any.
    """
    with group.together():
        cfg = run_config(path, asked.overrides)
        run = _opened(path, asked, group)
    # The run's own data are read as the run read them.
    other_data = any(override.startswith("data.") for override in asked.overrides)
    with data_of_run(run.folder):
        index = group.from_main(lambda: evaluation_index(cfg.data, asked.split, run.classes, strict=other_data))
    if group.is_main:
        for note in (*index.refused, *index.notes):
            log.warning("%s", note)
    differs = expected is not None and (index.classes, index.task) != (expected.classes, expected.task)
    if differs or (expected is not None and not asked.folds and index.fingerprint != expected.fingerprint):
        raise ConfigError(f"{path} has other training or validation data than the first run; evaluate it separately")
    index = index.with_rules(run.rules)
    with StopRequest(group) as stop:
        outcome = score(cfg, run.network, index, group, stop, keep=asked.several)  # an ensemble needs all probabilities
    return None if outcome is None else Evaluated(path, outcome, index)


def _opened(path: Path, asked: Request, group: Dist) -> OpenedRun:
    """Open a run. Where it is one of several, each failure of its code is a ConfigError: the others are evaluated."""
    try:
        return open_run(path, asked.which, group.device, overrides=asked.overrides, trust=asked.trust)
    except DistTrainError:
        raise
    except Exception as error:
        if not asked.several:
            raise  # the traceback shows the line in the user's code
        raise ConfigError(f"its model cannot be built: {type(error).__name__}: {error}") from error


def ensemble(outcomes: Sequence[Evaluation], index: DataIndex, metrics: Sequence[str]) -> Evaluation:
    """Return the evaluation of the mean outputs (probabilities or numbers) of several models, by ``metrics``."""
    kept = [outcome.outputs for outcome in outcomes if outcome.outputs is not None]
    assert len(kept) == len(outcomes)
    mean = mean_outputs(index.task, kept)
    scores = SampleScores(index.val, index.task, index.outputs, torch.device("cpu"), metrics)
    scores.add(mean, outcomes[0].labels, torch.from_numpy(outcomes[0].counted).nonzero().flatten())
    return scores.read(Dist.alone())


def _report(
    outcomes: list[tuple[str, Evaluation]],
    index: DataIndex,
    json_file: Path | None,
    picture: Path | None,
    several: bool,
) -> None:
    """Print the scores, one line per run, and the classes of the last one. The JSON file has all digits.

    Args:
        several: several runs were asked for, though perhaps only one could be evaluated.
    """
    for name, outcome in outcomes:
        scores = "  ".join(f"{metric} {digits(value)}" for metric, value in outcome.scores.items())
        print(f"{printable(name)}: {scores}" if several else scores)
    left_out = len(index.val) - int(outcomes[-1][1].counted.sum())
    if left_out:
        print(f"{left_out} of {len(index.val)} images cannot be read and are skipped")
    name, outcome = outcomes[-1]
    if len(index.classes) > 1:
        print(f"\n{printable(name)}\n{describe_table(class_table(outcome, index.classes))}")
    if json_file:
        documents = [_document(name, outcome, index.classes) for name, outcome in outcomes]
        with written_whole("--json", json_file) as file:
            file.write(f"{json_text(documents if several else documents[0], indent=2)}\n".encode())
    if picture:
        draw_confusion(picture, confusion(outcome, index.outputs), index.classes, name)
        print(f"confusion matrix: {picture}")


def _document(name: str, outcome: Evaluation, classes: list[str]) -> dict[str, Any]:
    document: dict[str, Any] = {"run": name, **outcome.scores, "classes": class_table(outcome, classes)}
    if outcome.classes is not None:
        document["confusion"] = confusion(outcome, len(classes)).tolist()
    return document
