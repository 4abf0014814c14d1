"""Write scalars (``<split>/<name>``) and pictures for TensorBoard."""

from dist_train.config.schema import Config
from dist_train.loggers.base import Facts, Image, Logger
from dist_train.run.metrics_file import Row, read_rows
from dist_train.run.result import Status


class TensorBoardLogger(Logger):
    """Write event files into one folder for all attempts of the run."""

    def start(self, config: Config, facts: Facts) -> None:
        from torch.utils.tensorboard import SummaryWriter  # imports for 0.1 s, and only rank 0 needs it

        # TensorBoard hides the rows of earlier attempts from `purge_step` on. At the step of the checkpoint, the training
        # row may stay while the evaluation's goes. So we hide all rows of that step, and write those that stay again.
        evaluated = facts.evaluated == facts.step
        self._writer = SummaryWriter(str(facts.run.tensorboard), purge_step=facts.step + evaluated)
        if not evaluated:
            for row in read_rows(facts.run.metrics):
                if row["step"] == facts.step:
                    self.row(row)

    def row(self, row: Row) -> None:
        for name, value in row.items():
            if isinstance(value, float) and name != "epoch":
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])
        self._writer.flush()

    def image(self, name: str, step: int, image: Image) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")
        self._writer.flush()

    def close(self, status: Status) -> None:
        self._writer.close()
