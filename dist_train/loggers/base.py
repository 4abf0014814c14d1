"""What a logger is."""

from typing import Any, Protocol

from dist_train.run.result import Status

Row = dict[str, Any]
"""``step``, ``epoch``, ``split`` and metrics by name."""


class Sink(Protocol):
    """Takes rows in the order of steps, and learns how the attempt ended."""

    def row(self, row: Row) -> None: ...

    def close(self, status: Status, exit_code: int) -> None: ...
