"""Loggers as a user would write them; tests name them in ``log.loggers``."""

import json
from pathlib import Path
from typing import Any

from dist_train.config import Config
from dist_train.loggers.base import Facts, Image, Logger
from dist_train.run.metrics_file import Row
from dist_train.run.result import Status


class RowFile(Logger):
    """Keeps rows in a file of its own, and says what else it was given. Its file outlives a kill."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def start(self, config: Config, facts: Facts) -> None:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.path.write_text("".join(f"{line}\n" for line in lines if facts.keeps(json.loads(line))))
        self._say(f"start {facts.step} {facts.evaluated} {facts.total_steps} attempt {facts.details['attempt']}")

    def row(self, row: Row) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")

    def image(self, name: str, step: int, image: Image) -> None:
        self._say(f"image {name} {step} {image.dtype} {image.ndim}")

    def file(self, path: Path) -> None:
        self._say(f"file {path.name}")

    def close(self, status: Status) -> None:
        self._say(f"close {status}")

    def _say(self, text: str) -> None:
        with open(self.path.with_suffix(".log"), "a") as file:
            file.write(text + "\n")


class Broken(Logger):
    """Fails in ``method``."""

    def __init__(self, method: str) -> None:
        setattr(self, method, self._fail)
        self.calls = 0

    def _fail(self, *_: Any) -> None:
        self.calls += 1
        raise RuntimeError("the server of this logger is gone")


class NotALogger:
    pass
