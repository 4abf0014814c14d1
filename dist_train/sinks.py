"""Where numbers go: metrics.jsonl (the local truth), TensorBoard, the terminal. Rank 0 has them, others none."""

import json
import logging
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from dist_train.config import Config
from dist_train.files import atomic_write
from dist_train.plan import Plan
from dist_train.run_dir import RunDir, Status
from dist_train.state import Progress
from dist_train.wandb_sink import open_wandb

log = logging.getLogger("dist_train")

Row = dict[str, Any]
"""``step``, ``epoch``, ``split`` and metrics by name."""


class Sink(Protocol):
    """Takes rows in the order of steps, and learns how the attempt ended."""

    def row(self, row: Row) -> None: ...

    def close(self, status: Status, exit_code: int) -> None: ...


class JsonlSink:
    """``metrics.jsonl``: one object a line.

    Opening rewinds it to ``progress``: rows beyond its step, or of an evaluation that it does not know of, were
    written by an attempt that was killed before it could save, and will be written again.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        lines = path.read_bytes().splitlines() if path.exists() else []
        self.kept = [row for row in map(_parse, lines) if row is not None and _precedes(row, progress)]
        with atomic_write(path) as file:
            file.write("".join(json.dumps(row) + "\n" for row in self.kept).encode())
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 - closed by close()

    def row(self, row: Row) -> None:
        try:
            self._file.write(json.dumps(row) + "\n")
        except OSError as error:
            error.filename = self._file.name  # writing to an open file does not tell which
            raise

    def close(self, status: Status, exit_code: int) -> None:
        self._file.close()


def _parse(line: bytes) -> Row | None:
    """A row; None for one that was cut short by a kill, or is not ours."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) and "split" in row else None


def _precedes(row: Row, progress: Progress) -> bool:
    return bool(row["step"] <= (progress.evaluated if row["split"] == "val" else progress.step))


class TensorBoardSink:
    """Scalars under ``<split>/<name>``.

    ``purge_step`` hides what an earlier attempt wrote from ``step`` on; the rows that hold good are given again.
    """

    def __init__(self, folder: Path, step: int, rows_so_far: list[Row]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # a tenth of a second, which other ranks need not spend

        self._folder = folder
        self._writer = SummaryWriter(str(folder), purge_step=step)
        for row in rows_so_far:
            if row["step"] == step:
                self.row(row)

    def row(self, row: Row) -> None:
        try:
            for name, value in row.items():
                if isinstance(value, float) and name != "epoch":
                    self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])
            self._writer.flush()
        except OSError as error:
            error.filename = str(self._folder)
            raise

    def close(self, status: Status, exit_code: int) -> None:
        self._writer.close()


class ConsoleSink:
    """One line a row; under a progress bar where there is a terminal."""

    def __init__(self, plan: Plan, step: int) -> None:
        self._plan, self._start, self._began = plan, step, time.monotonic()
        self._bar = tqdm(
            total=plan.total_steps, initial=step, unit="step", dynamic_ncols=True, disable=not sys.stderr.isatty()
        )

    def tick(self) -> None:
        self._bar.update()

    def row(self, row: Row) -> None:
        done = row["step"] - self._start
        left = (time.monotonic() - self._began) / done * (self._plan.total_steps - row["step"]) if done else 0.0
        text = describe_row(row, self._plan.total_steps, eta_s=left if row["split"] == "train" else None)
        if self._bar.disable:
            log.info(text)
        else:
            self._bar.write(text)

    def close(self, status: Status, exit_code: int) -> None:
        self._bar.close()


def describe_row(row: Row, total_steps: int, eta_s: float | None) -> str:
    """A row as one line for people.

    >>> describe_row({"step": 3, "epoch": 0.5, "split": "val", "loss": 1.25, "top1": 50.0}, 6, None)
    'step 3/6  epoch 0.50  val    loss 1.25  top1 50'
    """
    parts = [f"step {row['step']}/{total_steps}", f"epoch {row['epoch']:.2f}", f"{row['split']:<5}"]
    units = {"images_per_s": "{:.0f} images/s", "data_wait": "waited {:.0%}"}
    for name, value in row.items():
        if name not in ("step", "epoch", "split", "data_wait_max", "slowest_rank", "slowest_ratio"):
            parts.append(units[name].format(value) if name in units else f"{name} {value:.4g}")
    if eta_s is not None:
        parts.append(f"eta {timedelta(seconds=round(eta_s))}")
    return "  ".join(parts)


class Sinks:
    """All sinks of this rank, as one."""

    def __init__(self, sinks: list[Sink], console: ConsoleSink | None = None) -> None:
        self._console = console
        self._sinks = [*sinks, console] if console else sinks

    def tick(self) -> None:
        """One more step is done."""
        if self._console:
            self._console.tick()

    def row(self, row: Row) -> None:
        for sink in self._sinks:
            sink.row(row)

    def close(self, status: Status, exit_code: int) -> None:
        for sink in self._sinks:
            sink.close(status, exit_code)


def open_sinks(cfg: Config, run: RunDir, plan: Plan, progress: Progress, facts: dict[str, Any]) -> Sinks:
    """The sinks of rank 0, rewound to ``progress``.

    Args:
        facts: what W&B shows of the run beside its config.
    """
    jsonl = JsonlSink(run.metrics, progress)
    sinks: list[Sink] = [jsonl]
    wandb = open_wandb(cfg, run, progress.step, facts)  # it follows the file that was just rewound
    if wandb is not None:
        sinks.append(wandb)
    if cfg.log.tensorboard:
        sinks.append(TensorBoardSink(run.tensorboard, progress.step, jsonl.kept))
    return Sinks(sinks, ConsoleSink(plan, progress.step))
