"""Write scalars (``<split>/<name>``), pictures and hyperparameters for TensorBoard."""

from pathlib import Path

from dist_train.config.files.printed import changes
from dist_train.config.schema import Config
from dist_train.config.values import flat
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
        self._write_hparams(config)
        if not evaluated:
            for row in read_rows(facts.run.metrics):
                if row["step"] == facts.step:
                    self.row(row)

    def _write_hparams(self, config: Config) -> None:
        """Write the settings that differ from the defaults, and the metrics, whose values TensorBoard takes from the scalars.

        ``SummaryWriter.add_hparams`` would write them into another folder, as a run of its own.
        """
        from torch.utils.tensorboard.summary import hparams

        metrics = {f"val/{name}": 0.0 for name in (config.eval.metric, "loss")}
        for summary in hparams(_settings(config), metrics):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]

    def row(self, row: Row) -> None:
        for name, value in row.items():
            if isinstance(value, float) and name != "epoch":
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])
        self._writer.flush()

    def image(self, name: str, step: int, image: Image) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")
        self._writer.flush()

    def file(self, path: Path) -> None:
        """Write where the page of ``log.report`` is: TensorBoard shows no HTML."""
        if path.suffix == ".html":
            self._writer.add_text("report", f"`{path.resolve()}`: open it in a browser")
            self._writer.flush()

    def close(self, status: Status) -> None:
        self._writer.close()


def _settings(config: Config) -> dict[str, bool | float | str]:
    """Return what differs from the defaults, by dotted key, but for the run's name and folder; lists and null as text."""
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in flat(changes(config))
        if name not in ("run.name", "run.output_dir")
    }
