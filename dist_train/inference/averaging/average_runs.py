"""The command ``python -m dist_train average``: average weights, evaluate the result, write it as a run."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dist_train.checkpoint.format import save_weights
from dist_train.config.load import dump_config
from dist_train.config.schema import Config
from dist_train.data.decode_rules import record_rules
from dist_train.data.index import DataIndex, scan
from dist_train.data.loader import end_loaders
from dist_train.distributed.group import Dist
from dist_train.distributed.stop import StopRequest
from dist_train.errors import EXIT_DONE, ConfigError
from dist_train.evaluation.better import better
from dist_train.evaluation.metrics import Evaluation
from dist_train.evaluation.reports import pack_outcome
from dist_train.inference.averaging.batch_norms import moving, one_pass, recompute, training_images
from dist_train.inference.averaging.members import Mean, Member, members_of
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.inference.score import check_classes, score
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, write_result
from dist_train.run.saved_config import run_config
from dist_train.system.files import atomic_write, write_json
from dist_train.system.terminal import digits, log_to_console

log = logging.getLogger(__name__)


def average_runs(
    runs: Sequence[Path], name: str, greedy: bool, last: int | None, overrides: Sequence[str], trust: bool
) -> int:
    """Write the average of runs, or of the checkpoints of one, as a run beside the first. Return the exit code.

    Raises:
        ConfigError, DataError: runs cannot be averaged, the new folder exists, or the data is missing.
    """
    log_to_console(0)
    devices = [None, *["cpu"] * (len(runs) - 1)]  # only the first model computes
    opened = [open_run(p, device=d, overrides=overrides, trust=trust) for p, d in zip(runs, devices, strict=True)]
    run, members = opened[0], members_of(opened, last)
    place = [f"run.output_dir={json.dumps(str(runs[0].resolve().parent))}", f"run.name={json.dumps(name)}"]
    cfg = run_config(runs[0], [*overrides, *place])
    new = RunDir.of(cfg.run)
    if new.path.exists():
        raise ConfigError(f"--name ({name}): {new.path} exists; choose another name")
    index = scan(cfg.data, strict=False).with_rules(run.rules)
    check_classes(run.classes, index, str(run.folder.path))
    judge = Judge(run, cfg, run_config(runs[0], [*overrides, *one_pass(cfg, len(index.train))]), index)
    try:
        mean, kept, outcome = greedy_soup(judge, members) if greedy else uniform_soup(judge, members)
    finally:
        end_loaders()
    _write(new, cfg, run, index, judge.state(), outcome, _origin(members, kept, greedy))
    metric = cfg.eval.metric
    print(f"average of {mean.count} of {len(members)}: {metric} {digits(outcome.scores[metric])}")
    print(f"written to {new.path}")
    return EXIT_DONE


class Judge:
    """The model of the runs, into which weights are loaded, and the data that scores them.

    Args:
        cfg: of the evaluation.
        passing: of the pass over training images.
    """

    def __init__(self, run: OpenedRun, cfg: Config, passing: Config, index: DataIndex) -> None:
        self._run, self._cfg, self._passing, self._index = run, cfg, passing, index
        self.metric = cfg.eval.metric

    def of_member(self, member: Member) -> Evaluation:
        """Evaluate weights as they are."""
        self._run.model.load_state_dict(member.weights())
        return self._evaluate()

    def of_mean(self, mean: Mean) -> Evaluation:
        """Evaluate a mean, with BatchNorms recomputed."""
        self._run.model.load_state_dict(mean.state_dict())
        norms = moving(self._run.model, mean.differing)
        if norms:
            group = Dist.alone(self._run.device)
            recompute(self._run.model, norms, training_images(self._passing, self._run.network, self._index, group))
        return self._evaluate()

    def state(self) -> dict[str, Any]:
        """Return the weights that were evaluated last."""
        return self._run.model.state_dict()

    def _evaluate(self) -> Evaluation:
        group = Dist.alone(self._run.device)
        found = score(self._cfg, self._run.network, self._index, group, StopRequest(group))
        assert found is not None  # this StopRequest never stops
        return found


Soup = tuple[Mean, list[Member], Evaluation]
"""The mean, its members, and its evaluation; the weights are in the model of the ``Judge``."""


def uniform_soup(judge: Judge, members: list[Member]) -> Soup:
    """Return the mean of all."""
    mean = Mean.of(members[0].weights())
    for member in members[1:]:
        mean = mean.with_one_more(member.weights())
    return mean, members, judge.of_mean(mean)


def greedy_soup(judge: Judge, members: list[Member]) -> Soup:
    """Return the mean of the best weights and, one after another, of those that do not make it worse.

    Greedy soup of Wortsman et al. (2022), by ``eval.metric`` on the validation set.
    """
    scores = [judge.of_member(member).scores[judge.metric] for member in members]
    order: list[int] = []
    for number in range(len(members)):
        place = next(
            (i for i, other in enumerate(order) if better(judge.metric, scores[number], scores[other])), len(order)
        )
        order.insert(place, number)
    kept, mean = [members[order[0]]], Mean.of(members[order[0]].weights())
    best = scores[order[0]]
    log.info("%s: %s %s", kept[0].name, judge.metric, digits(best))
    for number in order[1:]:
        more = mean.with_one_more(members[number].weights())
        found = judge.of_mean(more).scores[judge.metric]
        helps = not better(judge.metric, best, found)
        log.info(
            "with %s (%s alone): %s, %s",
            *(members[number].name, digits(scores[number]), digits(found), "kept" if helps else "left out"),
        )
        if helps:
            mean, best = more, found
            kept.append(members[number])
    return mean, kept, judge.of_mean(mean)


def _origin(members: list[Member], kept: list[Member], greedy: bool) -> dict[str, Any]:
    """Return what ``provenance.json`` says of an average."""
    return {
        "greedy": greedy,
        "members": [
            {"file": str(member.file.resolve()), "sha256": member.sha256, "kept": member in kept} for member in members
        ],
    }


def _write(
    new: RunDir,
    cfg: Config,
    run: OpenedRun,
    index: DataIndex,
    state: dict[str, Any],
    outcome: Evaluation,
    origin: dict[str, Any],
) -> None:
    """Write the run folder; it appears whole or not at all."""
    partial = RunDir(new.path.with_name(f".{new.path.name}.partial"))
    shutil.rmtree(partial.path, ignore_errors=True)
    partial.path.mkdir(parents=True)
    step = run.result.step
    scores: dict[str, float] = {"step": step, **outcome.scores}
    try:
        with atomic_write(partial.config) as file:
            file.write(dump_config(cfg).encode())
        write_json(partial.classes, run.classes)
        record_rules(partial, run.rules)
        for path in (partial.best, partial.last):
            save_weights(path, state)
        with atomic_write(partial.predictions) as file:
            file.write(pack_outcome(outcome, index, step))
        write_json(partial.provenance, {"average": origin, "attempts": []})
        write_result(partial, Result("done", step=step, total_steps=step, best=scores, last=scores))
        partial.path.rename(new.path)
    finally:
        shutil.rmtree(partial.path, ignore_errors=True)
