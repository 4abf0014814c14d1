"""The messages when an attempt starts, ends or stops: pure functions, lines of at most ``WIDTH`` columns."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dist_train.config.plan import Plan
from dist_train.data.index import DataIndex
from dist_train.data.report.notes import class_counts
from dist_train.run.folder import RunDir
from dist_train.run.result import Result
from dist_train.system.foreign_text import printable
from dist_train.system.terminal import CLOCK, COLUMNS, digits, wrapped

WIDTH = COLUMNS - len(CLOCK)
MOST_NAMES = 10
"""Up to this many classes are all named; of more, only the first ``SHOWN_OF_MANY``."""
SHOWN_OF_MANY = 5
MOST_FILES = 3


def device_line(device: str, hosts: Sequence[str], per_rank: int = 1) -> str:
    """Return the line that names the devices of a run.

    Args:
        device: the name of rank 0's device.
        hosts: the host name of each rank.
        per_rank: the number of devices per rank.
    """
    ranks = Counter(hosts)
    where = f" on {len(ranks)} hosts" if len(ranks) > 1 else ""
    return f"device: {len(hosts) * per_rank} x {device}{where}"


def data_lines(index: DataIndex) -> list[str]:
    """Return lines with the number of images, the names of the outputs, and the smallest and the largest class."""
    kind = {"classification": "classes", "multilabel": "labels", "regression": "targets"}[index.task]
    names = [printable(name) for name in index.classes]
    few = names if len(names) <= MOST_NAMES else [*names[:SHOWN_OF_MANY], "..."]
    lines = [
        f"data: {len(index.train):,} training and {len(index.val):,} validation images",
        f"{len(names):,} {kind}: {', '.join(few)}",
    ]
    if index.task == "regression":
        targets_NK = index.train.labels[:]
        ranges = zip(names[: len(few)], targets_NK.min(0), targets_NK.max(0), strict=False)
        lines.append(
            "; ".join(f"{name} from {digits(float(low))} to {digits(float(high))}" for name, low, high in ranges)
        )
        return lines
    counts = class_counts(len(names), index.train.labels)
    least, most = int(counts.argmin()), int(counts.argmax())
    each = f"training images per {'class' if index.task == 'classification' else 'label'}"
    if counts[least] == counts[most]:
        return [*lines, f"{counts[least]:,} {each}"]
    return [*lines, f"{each}: {counts[least]:,} ({names[least]}) to {counts[most]:,} ({names[most]})"]


def run_line(run: Path, plan: Plan, step: int, reached: int) -> str:
    """Return the line that names the run folder and the step at which the run continues.

    Args:
        step: the step of the checkpoint; 0 without one.
        reached: the last step of the earlier attempts; 0 for a new run.
    """
    if not step and not reached:
        return f"run: {run}, a new run"
    repeated = max(0, reached - step)
    again = f"; {repeated} step{'s are' if repeated > 1 else ' is'} repeated" if repeated else ""
    if not step:
        return f"run: {run} has no checkpoint yet and starts again at step 0{again}"
    return f"run: {run}, continues at step {step} of {plan.total_steps}{again}"


def beginning(run: str, device: str, model: str, index: DataIndex, plan: Plan) -> str:
    """Return the first lines of an attempt's log."""
    return wrapped([run, device, model, *data_lines(index), *plan.describe().splitlines()], WIDTH)


def done(run: RunDir, result: Result, metric: str) -> str:
    """Return how a run ended, where its weights are, and the commands that use them."""
    ended = f"done: {result.step} of {result.total_steps} steps"
    if result.message:
        ended = f"done early, at step {result.step} of {result.total_steps}: {result.message}"
    if result.best is not None:
        ended += f"; best {metric} {digits(result.best[metric])} at step {result.best['step']}"
    path = shlex.quote(str(run.path))
    average = " (moving average)" if result.weights == "ema" else ""
    return "\n".join(
        [
            wrapped([ended, f"weights{average}: {run.best} (best), {run.last.name} (last step)"], WIDTH),
            f"next: python -m dist_train.evaluate {path}",
            f"      python -m dist_train.predict {path} IMAGES",
            f"      python -m dist_train.export {path}",
        ]
    )


def stopped(run: RunDir, result: Result, reason: str) -> str:
    """Return where a stopped run was saved, and how to continue it."""
    saved = f"stopped at step {result.step} of {result.total_steps} ({reason}); this step is saved in {run.path}"
    how = (
        "with a larger train.pause_epoch, or null, it goes on"
        if result.paused
        else "start the same command again to continue"
    )
    return wrapped([saved, how], WIDTH)


def tried(result: Result, reason: str) -> str:
    """Return how far an attempt of ``train.fast_dev_run`` came.

    Args:
        reason: why it was stopped; empty if nothing stopped it.
    """
    how = f"stopped after step {result.step} ({reason})" if reason else f"step {result.step} is done and saved"
    return f"train.fast_dev_run: {how}"


def changed_code(files: list[str]) -> str:
    """Return the warning that files of the running code have changed on disk."""
    more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
    return (
        f"the code has changed on disk since this start: {', '.join(files[:MOST_FILES])}{more}. This start goes on with the "
        "code that it has loaded; the next one uses the new code"
    )
