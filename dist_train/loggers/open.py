"""Choose and start the loggers of a run, and combine them into one."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from dist_train.config.schema import Config
from dist_train.config.sections.log import LogConfig
from dist_train.config.user_code import created
from dist_train.loggers.base import Facts, Image, Logger
from dist_train.loggers.console import ConsoleLogger
from dist_train.loggers.jsonl import JsonlLogger
from dist_train.loggers.mlflow.logger import MlflowLogger
from dist_train.loggers.tensorboard import TensorBoardLogger
from dist_train.loggers.wandb.logger import WandbLogger
from dist_train.run.metrics_file import Row
from dist_train.run.result import Status

log = logging.getLogger(__name__)


def open_loggers(cfg: Config, facts: Facts, given: Sequence[Logger] = ()) -> Logger:
    """Start the loggers of rank 0. Return one logger that passes every call to all of them.

    Args:
        given: loggers that the caller made, in addition to those that the config names.

    Raises:
        ConfigError: a logger of ``log.loggers`` cannot be created, or ``log.wandb`` or ``log.mlflow`` needs a package that is missing.
    """
    own = [*own_loggers(cfg.log), *given]
    tensorboard = [TensorBoardLogger()] if cfg.log.tensorboard else []
    # The first one rewinds metrics.jsonl, which the others read. The console comes last: its line follows their messages.
    loggers = Loggers(JsonlLogger(), [WandbLogger(), MlflowLogger(), *tensorboard, *own, ConsoleLogger()])
    loggers.start(cfg, facts)
    return loggers


def own_loggers(cfg: LogConfig) -> list[Logger]:
    """Create the loggers that ``log.loggers`` names.

    Raises:
        ConfigError: the class does not exist, does not accept these options, or is not a ``Logger``.
    """
    return [created(entry.name, "log.loggers", entry.options, Logger) for entry in cfg.loggers]


class Loggers(Logger):
    """Pass every call to several loggers. An error of ``record`` ends the run; an error of another ends that logger."""

    def __init__(self, record: Logger, others: Sequence[Logger]) -> None:
        self._record, self._others = record, list(others)
        self._ticked = [logger for logger in others if getattr(logger.tick, "__func__", None) is not Logger.tick]

    def start(self, config: Config, facts: Facts) -> None:
        for logger in (self._record, *self._others):
            logger.start(config, facts)

    def tick(self, step: int) -> None:
        self._record.tick(step)
        self._tell(self._ticked, lambda logger: logger.tick(step))

    def row(self, row: Row) -> None:
        self._record.row(row)
        self._tell(self._others, lambda logger: logger.row(dict(row)))

    def image(self, name: str, step: int, image: Image) -> None:
        self._record.image(name, step, image)
        self._tell(self._others, lambda logger: logger.image(name, step, image))

    def file(self, path: Path) -> None:
        self._record.file(path)
        self._tell(self._others, lambda logger: logger.file(path))

    def close(self, status: Status) -> None:
        self._record.close(status)
        self._tell(self._others, lambda logger: logger.close(status))

    def _tell(self, some: list[Logger], call: Callable[[Logger], None]) -> None:
        for logger in some:
            try:
                call(logger)
            except Exception:
                self._others = [other for other in self._others if other is not logger]
                self._ticked = [other for other in self._ticked if other is not logger]
                log.exception(
                    "%s failed and gets no more rows until the next start; metrics.jsonl has every row",
                    type(logger).__name__,
                )
