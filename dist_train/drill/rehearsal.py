"""Short runs of a config: they are stopped, killed or damaged, then started again and compared."""

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dist_train.config.load import dump_config, parse_config
from dist_train.config.schema import Config
from dist_train.drill.faults import Fault, Started, Traces, strike, wait_for_end, wait_until
from dist_train.errors import ConfigError, DistTrainError
from dist_train.run.folder import RunDir
from dist_train.system.files import atomic_write

STEPS, SAVE_EVERY, EVALUATE_EVERY = 12, 3, 4


STRIKE_AT = 5  # between two checkpoints, and no evaluation is due


VALIDATION_IMAGES = 256


STRAIGHT, AGAIN = "straight", "straight-again"


# On a GPU, sums in another order may change the weights: allow this many times the difference of two uninterrupted runs.
NOISE_FACTOR = 10


TRIES = 3  # on a fast machine a run may end before the fault


Start = Callable[[Sequence[str], int, Path], Started]
"""Starts a run. It takes the arguments of ``python -m dist_train``, the number of ranks and the log file."""


class DrillError(DistTrainError):
    """The drill cannot continue, for another reason than the faults that it causes."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one fault.

    Attributes:
        ended_s: seconds from the signal until the last process ended.
        restart_s: seconds from the second start until the end of its first step.
        lost: the number of repeated steps.
        trouble: what went wrong; empty if the run survived.
    """

    fault: Fault
    ended_s: float
    restart_s: float
    lost: int
    trouble: str


def drill_config(cfg: Config, folder: Path) -> Config:
    """Return the user's config with few steps, many checkpoints and a small validation set."""
    tree = cfg.model_dump(mode="json")
    tree["run"] |= {"output_dir": str(folder), "name": STRAIGHT, "resume": "auto", "deterministic": True}
    tree["train"] |= {
        "max_steps": STEPS,
        "epochs": max(cfg.train.epochs, STEPS),
        "time_limit": None,
        "fast_dev_run": False,
    }
    tree["train"]["early_stopping"], tree["model"]["unfreeze"] = None, {}
    tree["data"]["max_val_images"] = min(cfg.data.max_val_images or VALIDATION_IMAGES, VALIDATION_IMAGES)
    tree["eval"]["every_steps"] = EVALUATE_EVERY
    tree["checkpoint"] = {"every_steps": SAVE_EVERY, "keep": 2}
    tree["log"] |= {
        "every_steps": 1,
        "tensorboard": False,
        "wandb": {"mode": "disabled"},
        "mlflow": {"mode": "disabled"},
    }
    return parse_config(tree)


class Drill:
    """One uninterrupted run, and one interrupted run for each fault."""

    def __init__(self, cfg: Config, ranks: int, limit_s: float, start: Start) -> None:
        self.folder = Path(cfg.run.output_dir) / f"drill-{cfg.run.name}"
        self.config = self.folder / "drill.yaml"
        if self.config.exists():  # left by an earlier drill
            shutil.rmtree(self.folder)
        elif self.folder.exists():
            raise ConfigError(f"{self.folder} exists but was not made by a drill; choose another `run.name`")
        with atomic_write(self.config) as file:
            file.write(dump_config(drill_config(cfg, self.folder)).encode())
        self.ranks, self._limit_s, self._start = ranks, limit_s, start
        self._noise: float | None = None

    @property
    def noise(self) -> float | None:
        """Return the difference of the weights of two uninterrupted runs; None if it was not measured."""
        return self._noise

    def __call__(self, faults: Sequence[Fault]) -> list[Outcome]:
        """Run all faults.

        Raises:
            DrillError: a run fails without a fault.
        """
        self._say(f"an uninterrupted run of {STEPS} steps with {self.ranks} rank(s), in {self.folder}")
        self._undisturbed(STRAIGHT)
        outcomes = []
        for number, fault in enumerate(faults, 1):
            self._say(fault.name)
            outcomes.append(self._disturbed(fault, f"{number:02}-{re.sub('[ ,]+', '-', fault.name)}"))
        return outcomes

    def _say(self, what: str) -> None:
        print(f"drill: {what}", flush=True)

    def _traces(self, name: str) -> Traces:
        return Traces(RunDir(self.folder / name))

    def _go(self, name: str) -> Started:
        arguments = ["--config", str(self.config), f"run.name={name}"]
        return self._start(arguments, self.ranks, self._log(name))

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _undisturbed(self, name: str) -> None:
        """Start a run and wait for its end."""
        wait_for_end(self._go(name), self._limit_s)
        self._check(name, self._traces(name))

    def _disturbed(self, fault: Fault, name: str) -> Outcome:
        traces = self._traces(name)
        for _ in range(TRIES):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            started = self._go(name)
            hit = self._await_moment(fault, traces, started)
            if hit:
                strike(fault, started, self.ranks - 1)
            ended_s = wait_for_end(started, self._limit_s)
            if hit and traces.status() != "done":
                return self._comeback(fault, name, ended_s)
            self._check(name, traces)
        return Outcome(fault, 0.0, 0.0, 0, f"not tried: {TRIES} times the run ended before the fault could happen")

    def _await_moment(self, fault: Fault, traces: Traces, started: Started) -> bool:
        """Wait for the moment of the fault. Return False if the run ends first."""
        needed = 2 if fault.damage else 1
        moments: dict[str, Callable[[], bool]] = {
            "step": lambda: traces.reached() >= STRIKE_AT and not traces.in_flight(),
            "save": traces.in_flight,
            "evaluation": lambda: traces.evaluating(EVALUATE_EVERY),
        }
        moment = moments[fault.moment]
        try:
            return wait_until(lambda: len(traces.saved()) >= needed and moment(), started, self._limit_s)
        except TimeoutError as error:
            wait_for_end(started, 0)
            raise DrillError(f"{error}; see {self._log(traces.run.path.name)}, or raise --limit") from None

    def _comeback(self, fault: Fault, name: str, ended_s: float) -> Outcome:
        """Start the run again, and compare its end with the uninterrupted run."""
        traces = self._traces(name)
        stopped = traces.status() == "stopped"
        lost, allowed = traces.loss(fault, SAVE_EVERY)
        resumed, before = traces.reached() - lost, traces.number()
        if fault.damage:
            traces.damage(0.5, cut=False)
        began = time.monotonic()
        started = self._go(name)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: traces.number() != before and traces.reached() > resumed, started, self._limit_s)
        restart_s = time.monotonic() - began
        wait_for_end(started, self._limit_s)
        trouble = self._difference(name)
        if fault.graceful and not stopped:
            trouble = trouble or "it did not save before it ended"
        if lost > allowed:
            trouble = trouble or f"{lost} steps were lost; at most {allowed} may be"
        if fault.damage and not list(traces.run.checkpoints.glob("damaged-*")):
            trouble = trouble or "the damaged checkpoint was not detected"
        return Outcome(fault, ended_s, restart_s, lost, trouble)

    def _difference(self, name: str) -> str:
        """Return how the resumed run differs from the uninterrupted one; empty if they are equal."""
        ours, straight = self._traces(name), self._traces(STRAIGHT)
        if ours.status() != "done":
            return f"the run did not finish after its restart: see {self._log(name)}"
        if [row[:2] for row in ours.rows()] != [row[:2] for row in straight.rows()]:
            return "metrics.jsonl has other steps"
        if ours.digest() == straight.digest():
            return ""
        distance = weight_distance(ours.run, straight.run)
        if self._noise is None:
            self._say("the weights differ; a second uninterrupted run shows whether this machine is deterministic")
            self._undisturbed(AGAIN)
            self._noise = weight_distance(self._traces(AGAIN).run, straight.run)
        if distance <= NOISE_FACTOR * self._noise:
            return ""
        return (
            f"the weights differ by {distance:.1e} of the largest weight, two uninterrupted runs by {self._noise:.1e}"
        )

    def _check(self, name: str, traces: Traces) -> None:
        """Raise DrillError unless the run, which got no fault, has finished."""
        if traces.status() != "done":
            log = self._log(name)
            lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            # Prefer the run's own error lines: torchrun prints a long report after them.
            errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
            raise DrillError("\n".join([f"a run failed without a fault, see {log}:", *(errors or lines[-15:])]))


def weight_distance(run: RunDir, other: RunDir) -> float:
    """Return the largest difference between the last weights of two runs, as a share of the largest weight."""
    from dist_train.model.weights import load_weights  # imports torch

    ours, theirs = load_weights(run.last), load_weights(other.last)
    largest = max(value.double().abs().max().item() for value in theirs.values() if value.numel())
    apart = max((ours[key].double() - theirs[key].double()).abs().max().item() for key in theirs if ours[key].numel())
    return apart / largest if largest else apart


def table(outcomes: Sequence[Outcome], noise: float | None) -> str:
    """Return a table with one line per fault."""
    width = max(len(outcome.fault.name) for outcome in outcomes)
    same = "equal" if noise is None else f"equal within {noise:.0e}"
    lines = [f"{'fault':<{width}}  signal -> ended  start -> next step  steps lost  weights"]
    for outcome in outcomes:
        lines.append(
            f"{outcome.fault.name:<{width}}  {outcome.ended_s:13.1f} s  {outcome.restart_s:16.1f} s  "
            f"{outcome.lost:10}  {outcome.trouble or same}"
        )
    good = sum(not outcome.trouble for outcome in outcomes)
    return "\n".join([*lines, f"the run survived {good} of {len(outcomes)} faults without a loss"])
