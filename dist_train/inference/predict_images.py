"""What ``python -m dist_train.predict`` does: images to lines of CSV."""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor

from dist_train.data.augment.on_cpu import evaluation_transform, kept_share
from dist_train.data.augment.on_device import Normalise
from dist_train.data.decoding.decode import read_rgb
from dist_train.data.formats.folders import names_below
from dist_train.errors import EXIT_DONE, EXIT_USER, DataError
from dist_train.inference.load_run import Trained, Which, load_trained, own_device
from dist_train.learning.precision import Precision
from dist_train.system.terminal import can_write, print_any_name, told_as_output


def predict_images(run: Path, images: Sequence[Path], which: Which, out: Path | None, batch_size: int) -> int:
    """Predict files and folders, in the given order, and write CSV.

    Returns:
        The exit code: 2 if some could not be read.

    Raises:
        ConfigError, DataError: the run has no weights, or there is not one image.
    """
    paths = list(_files(images))
    trained = load_trained(run, which, own_device())
    unreadable: list[str] = []
    with _opened(out) as file:
        table = csv.writer(file)
        table.writerow(_header(trained))
        for path, output in _outputs(trained, paths, batch_size, unreadable):
            table.writerow([path, *_fields(trained, output)])
    for reason in unreadable:
        print(f"error: {reason}", file=sys.stderr)
    return EXIT_USER if unreadable else EXIT_DONE


def _opened(out: Path | None) -> AbstractContextManager[TextIO]:
    if out is None:
        print_any_name()
        return nullcontext(sys.stdout)
    can_write("--out", out)
    with told_as_output("--out", out):
        return open(out, "w", newline="", encoding="utf-8", errors="surrogateescape")


def _files(images: Iterable[Path]) -> Iterator[Path]:
    found = False
    for path in images:
        if not path.exists():
            raise DataError(f"there is no file or folder {path}")
        for file in [path / name for name in names_below(path, path)] if path.is_dir() else [path]:
            found = True
            yield file
    if not found:
        raise DataError("the folders hold no images")


@torch.no_grad()
def _outputs(
    trained: Trained, paths: list[Path], batch_size: int, unreadable: list[str]
) -> Iterator[tuple[Path, Tensor]]:
    """Probabilities (or the numbers of a regression) [K] of each image that can be read."""
    cfg, network = trained.cfg, trained.network
    transform = evaluation_transform(network.image_size, kept_share(cfg.augment, network.crop_pct))
    normalise = Normalise(cfg.data, network, trained.device, cfg.model.channels_last)
    precision = Precision(cfg.train, trained.device)
    for start in range(0, len(paths), batch_size):
        pixels, read = [], []
        for path in paths[start : start + batch_size]:
            try:
                pixels.append(transform(read_rgb(path)))
                read.append(path)
            except DataError as error:
                unreadable.append(str(error))
        if read:
            with precision.autocast():
                logits = network.module(normalise(torch.from_numpy(np.stack(pixels)).to(trained.device)))
            yield from zip(read, _meaning(cfg.data.task, logits.float()).cpu(), strict=True)


def _meaning(task: str, logits_BK: Tensor) -> Tensor:
    if task == "classification":
        return logits_BK.softmax(1)
    return logits_BK.sigmoid() if task == "multilabel" else logits_BK


def _header(trained: Trained) -> list[str]:
    match trained.cfg.data.task:
        case "classification":
            return ["path", "prediction", "probability", *trained.classes]
        case "multilabel":
            return ["path", "predictions", *trained.classes]
        case _:
            return ["path", *trained.classes]


def _fields(trained: Trained, output_K: Tensor) -> list[Any]:
    numbers = [f"{value:.6g}" for value in output_K.tolist()]
    match trained.cfg.data.task:
        case "classification":
            best = int(output_K.argmax())
            return [trained.classes[best], numbers[best], *numbers]
        case "multilabel":
            there = [name for name, value in zip(trained.classes, output_K.tolist(), strict=True) if value > 0.5]
            return [trained.cfg.data.csv.label_separator.join(there), *numbers]
        case _:
            return numbers
