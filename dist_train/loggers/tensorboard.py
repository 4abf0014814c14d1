"""TensorBoard scalars."""

from pathlib import Path

from dist_train.loggers.base import Row
from dist_train.run.result import Status


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
