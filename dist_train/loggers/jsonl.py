"""``metrics.jsonl``: the rows of a run, one JSON object per line; null for a number that is NaN or infinite."""

from dist_train.config.schema import Config
from dist_train.loggers.base import Facts, Logger
from dist_train.run.metrics_file import Row, read_rows
from dist_train.run.result import Status
from dist_train.system.files import atomic_write, json_text


class JsonlLogger(Logger):
    """Write the rows to the file that a resume, ``compare`` and every other logger read."""

    def start(self, config: Config, facts: Facts) -> None:
        path = facts.run.metrics
        with atomic_write(path) as file:
            for row in read_rows(path):
                if facts.keeps(row):
                    file.write((json_text(row) + "\n").encode())
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 - closed by close()

    def row(self, row: Row) -> None:
        try:
            self._file.write(json_text(row) + "\n")
        except OSError as error:
            error.filename = self._file.name  # an OSError of an open file does not contain its name
            raise

    def close(self, status: Status) -> None:
        self._file.close()
