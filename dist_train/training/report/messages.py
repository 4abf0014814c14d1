"""What a person reads when an attempt begins, ends or stops: pure functions, lines of at most ``WIDTH`` columns."""

import shlex
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dist_train.config.plan import Plan
from dist_train.data.index import DataIndex
from dist_train.run.folder import RunDir
from dist_train.run.result import Result
from dist_train.system.terminal import CLOCK, COLUMNS, digits

WIDTH = COLUMNS - len(CLOCK)
MOST_NAMES = 10
"""Classes that are all named; of more the first few are."""
SHOWN_OF_MANY = 5


def device_line(device: str, hosts: Sequence[str], per_rank: int = 1) -> str:
    """Return where a run computes.

    Args:
        device: the name of rank 0's.
        hosts: the host name of each rank.
        per_rank: devices of each rank.
    """
    ranks = Counter(hosts)
    where = f" on {len(ranks)} hosts" if len(ranks) > 1 else ""
    return f"device: {len(hosts) * per_rank} x {device}{where}"


def data_lines(index: DataIndex) -> list[str]:
    """Return how many images there are, the names of the outputs, and how evenly the classes are filled."""
    kind = {"classification": "classes", "multilabel": "labels", "regression": "targets"}[index.task]
    names = [printable(name) for name in index.classes]
    few = names if len(names) <= MOST_NAMES else [*names[:SHOWN_OF_MANY], "..."]
    lines = [
        f"data: {len(index.train):,} training and {len(index.val):,} validation images",
        f"{len(names):,} {kind}: {', '.join(few)}",
    ]
    labels = index.train.labels
    if index.task == "regression":
        ranges = zip(names[: len(few)], labels.min(0), labels.max(0), strict=False)
        lines.append(
            "; ".join(f"{name} from {digits(float(low))} to {digits(float(high))}" for name, low, high in ranges)
        )
        return lines
    counts = np.bincount(labels, minlength=len(names)) if labels.ndim == 1 else labels.sum(0).astype(np.int64)
    least, most = int(counts.argmin()), int(counts.argmax())
    each = f"training images of each of the {kind}"
    if counts[least] == counts[most]:
        return [*lines, f"{counts[least]:,} {each}"]
    return [*lines, f"{each}: {counts[least]:,} ({names[least]}) to {counts[most]:,} ({names[most]})"]


def run_line(run: Path, plan: Plan, step: int, reached: int) -> str:
    """Return where the results go, and where the run continues.

    Args:
        step: the checkpoint's; 0 without one.
        reached: the last step that an earlier attempt did; 0 for a new run.
    """
    if not step and not reached:
        return f"run: {run}, a new run"
    where = f"continues at step {step} of {plan.total_steps}" if step else "has no checkpoint and begins again"
    again = f"; {reached - step} steps are done again" if reached > step else ""
    return f"run: {run}, {where}{again}"


def beginning(run: str, device: str, model: str, index: DataIndex, plan: Plan) -> str:
    """Return the head of an attempt's log."""
    return _wrapped([run, device, model, *data_lines(index), *plan.describe().splitlines()])


def done(run: RunDir, result: Result, metric: str, early: bool) -> str:
    """Return how a run ended, where its weights are, and what to do with them."""
    ended = f"done: {result.step} of {result.total_steps} steps"
    if early:
        ended = f"done early, at step {result.step} of {result.total_steps}: `{metric}` no longer improves"
    if result.best is not None:
        ended += f"; best {metric} {digits(result.best[metric])} at step {result.best['step']}"
    path = shlex.quote(str(run.path))
    average = " (moving average)" if result.weights == "ema" else ""
    return "\n".join(
        [
            _wrapped([ended, f"weights{average}: {run.best} (best), {run.last.name} (last step)"]),
            f"next: python -m dist_train.evaluate {path}",
            f"      python -m dist_train.predict {path} IMAGES",
            f"      python -m dist_train.export {path}",
        ]
    )


def stopped(run: RunDir, result: Result, reason: str) -> str:
    """Return that nothing is lost, and how to continue."""
    saved = f"stopped at step {result.step} of {result.total_steps} ({reason}); the run is saved up to this step in {run.path}"
    return _wrapped([saved, "the same command continues it from here"])


def printable(name: str) -> str:
    """Return a name from the file system as a terminal can show it: without control characters and broken bytes."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _wrapped(lines: Sequence[str]) -> str:
    fill = textwrap.TextWrapper(WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False).fill
    return "\n".join(map(fill, lines))
