"""Successive halving of a sweep: after each rung the worse runs pause, and the better ones go on (arXiv:1502.07943).

A rung is an epoch. All runs train to the first one, the best of them to the second, and so on to the end. Schedules are of
the full length from the beginning, and a run that goes on is a resume, so that the winner ends with the weights that it would
have had alone. Which runs go on follows from the scores at the rung and from nothing else: no order of arrival matters.

A bracket is such a sweep, in a file that all its jobs read. A seat is one place in a rung: job K of the second rung trains
the run that was the K-th best at the first.
"""

import glob
import math
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from dist_train.config.choices import falls
from dist_train.config.load import load_config
from dist_train.config.schema import Config
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import read_rows
from dist_train.run.result import read_result
from dist_train.system.files import read_json, write_json
from launch.jobs.job import Task
from launch.jobs.job_options import JobOptions
from launch.jobs.option_values import Halving
from launch.runs.starts import read_submissions, record_submission


@dataclass(frozen=True)
class Bracket:
    """A sweep with halving.

    Attributes:
        configs: the config of each run and its overrides.
        rungs: the epochs at which runs pause.
    """

    configs: list[tuple[str, list[str]]]
    rungs: list[int]
    factor: int

    def seats(self, rung: int) -> int:
        """Return how many runs train to a rung; ``len(rungs)`` is the end of the runs.

        >>> bracket = Bracket([("a.yaml", [])] * 12, [1, 3], 3)
        >>> [bracket.seats(rung) for rung in range(3)]
        [12, 4, 1]
        """
        return max(1, len(self.configs) // int(self.factor**rung))

    def runs(self, rung: int) -> list[int]:
        """Return the numbers of the runs that train to a rung, the best at the rung before first."""
        found = list(range(len(self.configs)))
        for below in range(rung):
            found = sorted(found, key=lambda number: self._rank(number, self.rungs[below]))[: self.seats(below + 1)]
        return found

    def complete(self, rung: int) -> bool:
        """Return whether all runs of a rung have come to it."""
        return all(self.reached(number, rung) for number in self.runs(rung))

    def overrides(self, number: int, rung: int) -> list[str]:
        """Return the overrides with which a run trains to a rung."""
        pause = self.rungs[rung] if rung < len(self.rungs) else "null"
        return [*self.configs[number][1], f"train.pause_epoch={pause}"]

    def config(self, number: int) -> Config:
        """Return the config of a run."""
        return load_config(*self.configs[number])

    def score(self, number: int, epoch: float) -> float | None:
        """Return what ``eval.metric`` was at an epoch; of a run that ended before it, at its end. None if it did not come there."""
        cfg = self.config(number)
        run = RunDir.of(cfg.run)
        rows = [row for row in read_rows(run.metrics) if row["split"] == "val" and cfg.eval.metric in row]
        there = [row for row in rows if abs(row["epoch"] - epoch) < 1e-3]
        if not there and read_result(run).get("status") == "done":
            there = rows[-1:]
        value = there[-1][cfg.eval.metric] if there else None
        return float(value) if isinstance(value, (int, float)) else None

    def reached(self, number: int, rung: int) -> bool:
        """Return whether a run has come to a rung, or to its end."""
        result = read_result(RunDir.of(self.config(number).run))
        if result.get("status") == "done" or rung == len(self.rungs):
            return result.get("status") == "done"
        return self.score(number, self.rungs[rung]) is not None

    def describe(self, epochs: int) -> str:
        """Return the plan in one line: how many runs train how far, and the share of the epochs of all runs."""
        ends = [*self.rungs, epochs]
        parts = [f"{self.seats(rung)} run(s) to epoch {end}" for rung, end in enumerate(ends)]
        spent = sum(self.seats(rung) * (end - begin) for rung, (begin, end) in enumerate(pairwise([0, *ends])))
        share = 100 * spent / (epochs * len(self.configs))
        return f"halving: {', '.join(parts)}; {share:.0f} % of the epochs of all runs"

    def _rank(self, number: int, epoch: float) -> tuple[bool, float, str]:
        """Return by what runs are sorted: score, then name. Runs without a score, or with NaN, come last."""
        cfg, score = self.config(number), self.score(number, epoch)
        if score is None or math.isnan(score):
            return True, 0.0, cfg.run.name
        return False, score if falls(cfg.eval.metric) else -score, cfg.run.name


@dataclass(frozen=True)
class Seat:
    """One place in a rung of the bracket in a file."""

    file: str
    rung: int
    place: int
    options: JobOptions

    @property
    def words(self) -> str:
        """The seat on a command line."""
        return f"{self.rung}:{self.place}:{self.file}"

    def task(self) -> Task:
        """Return what to train: the run that takes this seat, up to the rung."""
        bracket = load(Path(self.file))
        number = bracket.runs(self.rung)[self.place]
        return Task(bracket.configs[number][0], bracket.overrides(number, self.rung), self.options)

    def record(self, job_id: str, nodes: int) -> None:
        """Write into the run folder that this job trains the run, and say it."""
        task = self.task()
        run = RunDir.of(load_config(task.config, task.overrides).run)
        print(f"[supervisor] seat {self.place} of rung {self.rung}: {run.path}", flush=True)
        if [entry["job"] for entry in read_submissions(run)][-1:] != [job_id]:
            logs = f"{glob.escape(str(Path(self.file).parent))}/{job_id}_*_log.out"
            record_submission(run, job_id, logs=logs, nodes=nodes)


def seat_of(words: str, options: JobOptions) -> Seat:
    """Return the seat that ``Seat.words`` describes."""
    rung, place, file = words.split(":", 2)
    return Seat(file, int(rung), int(place), options)


def rungs(halving: Halving, epochs: int) -> list[int]:
    """Return the epochs of the rungs.

    >>> rungs(Halving(factor=3, first_epoch=1), epochs=20)
    [1, 3, 9]
    """
    found = []
    epoch = halving.first_epoch
    while epoch < epochs:
        found.append(epoch)
        epoch *= halving.factor
    return found


def make_bracket(halving: Halving, configs: list[tuple[str, list[str]]]) -> Bracket:
    """Return the bracket of a sweep.

    Raises:
        ConfigError: the runs cannot be compared at the rungs.
    """
    loaded = [load_config(config, overrides) for config, overrides in configs]
    first = loaded[0]
    other = next((cfg for cfg in loaded if _compared(cfg) != _compared(first)), None)
    if other:
        raise ConfigError(
            "--halving compares runs of the same length by the same metric: `train.epochs` and `eval.metric` are "
            f"{_compared(first)} in {first.run.name} and {_compared(other)} in {other.run.name}"
        )
    found = rungs(halving, first.train.epochs)
    if not found:
        raise ConfigError(
            f"--halving {halving}: the first rung must come before `train.epochs` ({first.train.epochs}); lower first_epoch"
        )
    if len(loaded) < halving.factor:
        raise ConfigError(f"--halving {halving}: a sweep of {len(loaded)} run(s) has none to stop; lower factor")
    for cfg in loaded:
        _check_run(cfg, found)
    usual = Bracket(configs, found, halving.factor)
    last = next((rung for rung in range(len(found)) if usual.seats(rung) == 1), len(found))
    return replace(usual, rungs=found[:last])  # one run alone need not pause


def _compared(cfg: Config) -> tuple[int, str]:
    return cfg.train.epochs, cfg.eval.metric


def _check_run(cfg: Config, found: list[int]) -> None:
    between = next((epoch for epoch in found if cfg.eval.every_steps or epoch % cfg.eval.every_epochs), None)
    if between:
        raise ConfigError(
            f"--halving compares the runs after epoch {between}, where {cfg.run.name} has no evaluation; set "
            "`eval.every_steps` to null and `eval.every_epochs` to 1, or to a number that divides the epochs of all rungs"
        )
    if cfg.train.max_steps is not None or cfg.train.pause_epoch is not None:
        raise ConfigError("--halving works in epochs: remove `train.max_steps` and `train.pause_epoch`")


def save(bracket: Bracket, path: Path, jobs: list[str]) -> None:
    """Write the file of a bracket, with the jobs that train it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(bracket) | {"jobs": jobs})


def load(path: Path) -> Bracket:
    """Read the file of a bracket.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    content: dict[str, Any] = read_json(path, default={})
    try:
        configs = [(str(config), [str(word) for word in overrides]) for config, overrides in content["configs"]]
        return Bracket(configs, [int(epoch) for epoch in content["rungs"]], int(content["factor"]))
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{path} is not the file of a sweep with --halving") from None


def jobs_of(path: Path) -> list[str]:
    """Return the jobs that were submitted for the bracket in a file; none if there is no file."""
    jobs = read_json(path, default={}).get("jobs", [])
    return [job for job in jobs if isinstance(job, str)]
