"""The command ``python -m dist_train.predict``: predict images with all ranks, write a table and embeddings."""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from dist_train.data.formats.base import suffixes_of
from dist_train.distributed.group import Dist, joined
from dist_train.errors import EXIT_DONE, EXIT_USER
from dist_train.inference.open_run import OpenedRun, open_run
from dist_train.inference.predicting.head_input import HeadInput
from dist_train.inference.predicting.places import Places
from dist_train.inference.predicting.rounds import Rounds
from dist_train.inference.predicting.written import Written
from dist_train.inference.predictor import Predictor, Source, images_of
from dist_train.run.saved_config import Which, run_config
from dist_train.system.streams import own_stream
from dist_train.system.terminal import log_to_console


def predict_images(
    path: Path,
    images: Sequence[Path],
    which: Which,
    places: Places,
    batch_size: int,
    trust: bool = False,
    overrides: Sequence[str] = (),
) -> int:
    """Predict files and folders, in the given order. Under torchrun the ranks share the work; rank 0 writes.

    Returns:
        The exit code, the same on every rank: 2 if an image could not be read.

    Raises:
        ConfigError, DataError: the run has no weights, there are no images, or a file cannot be written.
    """
    cfg = run_config(path, overrides)
    with joined(cfg.distributed.automatic()) as group:
        _log(group, places)
        found = group.from_main(lambda: list(images_of(images, suffixes_of(cfg.data))))
        run = open_run(path, which, group.device, overrides=overrides, trust=trust)
        unreadable = _predict(run, found, places, batch_size, group)
        if unreadable and group.is_main:
            counted = f"error: {unreadable:,} of {len(found):,} images cannot be read and are left out"
            print(counted, file=sys.stderr)
        files = dict.fromkeys(str(path) for path in places.files if own_stream(path) is None)
        if files and group.is_main:
            print(f"wrote {', '.join(files)}: {len(found) - unreadable:,} images", file=sys.stderr)
    return EXIT_USER if unreadable else EXIT_DONE


def _predict(run: OpenedRun, images: Sequence[Source], places: Places, batch_size: int, group: Dist) -> int:
    """Return how many images cannot be read."""
    predictor = Predictor.of(run)
    head = HeadInput(run.network, predictor) if places.embeddings else None
    written = Written(predictor, images, places, head.width if head else 0)
    unreadable = 0
    try:
        with ExitStack() as until:
            group.from_main(lambda: written.open(run, until))
            for found in Rounds(run.config.data, predictor, head, batch_size, group)(images):
                unreadable += sum(len(each.errors) for each in found)
                if not group.from_main(lambda: written.write(found)):  # noqa: B023 - called at once
                    raise StdoutEndedError
            group.from_main(until.close)
    except StdoutEndedError:
        if written.failed:
            raise written.failed from None
    return unreadable


class StdoutEndedError(Exception):
    """Raised on all ranks to leave no file under its final name. Not an ``OSError``, which a file would take for its own."""


def _log(group: Dist, places: Places) -> None:
    """Log to stdout if it holds no table. The other ranks would repeat the warnings of rank 0."""
    if not group.is_main:
        logging.getLogger("dist_train").setLevel(logging.ERROR)
    elif places.table is not None:
        log_to_console(group.rank)
