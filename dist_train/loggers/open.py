"""Open the loggers that a config asks for."""

from typing import Any

from dist_train.config import Config
from dist_train.config.plan import Plan
from dist_train.loggers.base import Row, Sink
from dist_train.loggers.console import ConsoleSink
from dist_train.loggers.jsonl import JsonlSink
from dist_train.loggers.tensorboard import TensorBoardSink
from dist_train.loggers.wandb.sink import open_wandb
from dist_train.run.folder import RunDir
from dist_train.run.result import Status


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


def open_sinks(cfg: Config, run: RunDir, plan: Plan, step: int, evaluated: int, facts: dict[str, Any]) -> Sinks:
    """The sinks of rank 0, rewound to ``step``, and to the evaluation at ``evaluated``.

    Args:
        facts: what W&B shows of the run beside its config.
    """
    jsonl = JsonlSink(run.metrics, step, evaluated)
    sinks: list[Sink] = [jsonl]
    wandb = open_wandb(cfg, run, step, facts)  # it follows the file that was just rewound
    if wandb is not None:
        sinks.append(wandb)
    if cfg.log.tensorboard:
        sinks.append(TensorBoardSink(run.tensorboard, step, jsonl.kept))
    return Sinks(sinks, ConsoleSink(plan, step))
