"""``look --doctor``: every image of both splits is read, and what is wrong is listed in a table."""

import io
from collections.abc import Callable
from pathlib import Path

from dist_train.config.schema import Config
from dist_train.data.decode_rules import decide_rules
from dist_train.data.doctor.findings import Finding, describe, examine, write
from dist_train.data.formats.walk import look_at_root
from dist_train.data.index import DataIndex, scan
from dist_train.errors import EXIT_DONE
from dist_train.run.folder import RunDir
from dist_train.system.files import atomic_write
from dist_train.system.terminal import check_output, check_suffix, log_to_console, wrapped, writing_output

Judge = Callable[[DataIndex], list[Finding]]


def doctor(cfg: Config, out: Path | None, judge: Judge = lambda _: []) -> int:
    """Examine the data, print what was found, and write the table. Return the exit code.

    Args:
        judge: finds images of another class, by trained models.

    Raises:
        DistTrainError: the config or the data set is wrong, or the table cannot be written.
    """
    log_to_console(0)
    path = out or Path(cfg.run.output_dir) / f"{cfg.run.name}-findings.csv"
    check_suffix("--out", path, (".csv",), " with --doctor")
    check_output("--out", path)
    look_at_root(cfg.data)
    index = scan(cfg.data, strict=False)
    judged = judge(index)
    rows, notes = examine(index.with_rules(decide_rules(cfg.data, index, RunDir.of(cfg.run), resumed=False)))
    rows += judged
    print(wrapped([*describe(rows), *(f"note: {note}" for note in (*index.notes, *notes))]))
    _write(path, rows)
    images = len({row.image for row in rows if row.exclude == "yes"})
    print(f"table: {path}; data.exclude={path} leaves {images:,} images out (see its column `exclude`)")
    return EXIT_DONE


def _write(path: Path, rows: list[Finding]) -> None:
    text = io.StringIO(newline="")
    write(text, rows)
    with writing_output("--out", path), atomic_write(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))
