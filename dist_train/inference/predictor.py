"""Predict with a model: files, folders or PIL images in, probabilities or numbers out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dist_train.config.choice_table import Task
from dist_train.config.schema import Config
from dist_train.data.augment.frame import evaluation_frame
from dist_train.data.augment.on_cpu import evaluation_transform
from dist_train.data.augment.on_device import Normalise
from dist_train.data.decoding.decode import from_image, read_image
from dist_train.data.decoding.picture import DTYPES, BadImage, Pixels
from dist_train.data.decoding.rules import DecodeRules
from dist_train.data.formats.base import IMAGE_SUFFIXES
from dist_train.data.formats.walk import Surroundings, names_below
from dist_train.errors import DataError
from dist_train.evaluation.activation import activated
from dist_train.evaluation.calibration import USUAL_THRESHOLD, Calibration
from dist_train.evaluation.views import with_views
from dist_train.inference.predicting.layout import at_once
from dist_train.learning.precision import Precision
from dist_train.model.network import Network

if TYPE_CHECKING:
    from dist_train.inference.open_run import OpenedRun

Source = str | Path | Image.Image
"""An image: a file, or a PIL image of any mode and size."""


class ImageTransform:
    """The transform of an evaluation: from an image to the input of the model.

    It decodes the image, fits it to the model's input as ``eval`` says, scales it to 0..1, normalises it.

    Attributes:
        shape: H, W and C of its pixels.
        dtype: of its pixels.
    """

    def __init__(self, cfg: Config, network: Network, rules: DecodeRules) -> None:
        frame = evaluation_frame(cfg, network)
        self.shape, self.dtype = (*frame.size, network.channels), DTYPES[cfg.data.bits]
        self._rules, self._fitted = rules, evaluation_transform(frame)
        self._normalise = Normalise(cfg.data, network, torch.device("cpu"), channels_last=False)

    def __call__(self, image: Source) -> Tensor:
        """Return the input of the model, float32 [C, H, W] on the CPU.

        Raises:
            DataError: the file cannot be read, or is not an image.
        """
        return self._normalise(torch.from_numpy(self.pixels(image))[None])[0]

    def blank(self, images: int) -> Pixels:
        """Return the pixels of black images, [B, H, W, C]."""
        return np.zeros((images, *self.shape), dtype=self.dtype)

    def pixels(self, image: Source) -> Pixels:
        """Return the image resized and cut or padded, [H, W, C]."""
        if not isinstance(image, Image.Image):
            return self._fitted(read_image(image, self._rules))
        try:
            return self._fitted(from_image(image, self._rules))
        except ValueError as error:
            raise BadImage(f"cannot use the image {image}: {error}") from None


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        image: the image as it was given; for an image in a folder, its file.
        outputs: float32 [K], the probability of each class, or the regression outputs.
        thresholds: of a multilabel task, for each label the probability above which the image has it; empty: 0.5.
    """

    image: Source
    task: Task
    classes: Sequence[str]
    outputs: Tensor
    thresholds: Sequence[float] = ()

    def __repr__(self) -> str:
        """Return the image and what the model says of it, for a notebook."""
        match self.task:
            case "classification":
                found = "{} {:.3g}".format(*self.top(1)[0])
            case "multilabel":
                found = ", ".join(self.labels) or "no label"
            case "regression":
                found = ", ".join(f"{name} {value:.4g}" for name, value in self.scores.items())
        return f"Prediction({self.image}: {found})"

    @property
    def scores(self) -> dict[str, float]:
        """Return the outputs by the name of their class or regression target."""
        return dict(zip(self.classes, self.outputs.tolist(), strict=True))

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the ``count`` most likely classes with their probabilities, the most likely first."""
        found = self.outputs.topk(min(count, len(self.classes)))
        return [(self.classes[place], value) for place, value in zip(found.indices, found.values.tolist(), strict=True)]

    @property
    def label(self) -> str:
        """Return the most likely class."""
        return self.classes[int(self.outputs.argmax())]

    @property
    def labels(self) -> list[str]:
        """Return the classes of a multilabel task whose probability is above their threshold."""
        thresholds = self.thresholds or [USUAL_THRESHOLD] * len(self.classes)
        each = zip(self.classes, self.outputs.tolist(), thresholds, strict=True)
        return [name for name, value, threshold in each if value > threshold]


class Predictor:
    """Runs a model, in eval mode on ``device``, on batches of images.

    Args:
        channels_last: the model gets images in this layout, also where ``model.channels_last`` does not say so.

    Attributes:
        transform: from an image to its pixels.
    """

    def __init__(
        self,
        cfg: Config,
        network: Network,
        classes: Sequence[str],
        device: torch.device,
        rules: DecodeRules,
        calibration: Calibration | None = None,
        channels_last: bool = False,
    ) -> None:
        self._task, self._classes, self._device, self._calibration = cfg.data.task, classes, device, calibration
        sample = torch.zeros(network.blank_shape(1, evaluation_frame(cfg, network).size), device=device)
        self._module = with_views(network.module, cfg.eval.tta, self._task, sample)
        self.transform = ImageTransform(cfg, network, rules)
        self._normalise = Normalise(cfg.data, network, device, cfg.model.channels_last or channels_last)
        self._precision = Precision(cfg.train, device)

    @classmethod
    def of(cls, run: "OpenedRun") -> "Predictor":
        """Return the predictor of a run: with its calibration, in the layout that is faster."""
        return cls(run.config, run.network, run.classes, run.device, run.rules, run.calibration, run.channels_last)

    def __call__(self, images: Iterable[Source], batch_size: int) -> Iterator[Prediction | DataError]:
        """Predict images in their order. For an image that cannot be read, yield the error instead."""
        rest = iter(images)
        while batch := list(islice(rest, batch_size)):
            read = [self._read(image) for image in batch]
            good = [pixels for pixels in read if not isinstance(pixels, DataError)]
            parts = at_once(torch.from_numpy(np.stack(good)), self._device) if good else ()
            outputs = chain.from_iterable(map(self.outputs, parts))
            for image, pixels in zip(batch, read, strict=True):
                yield pixels if isinstance(pixels, DataError) else self.prediction(image, next(outputs))

    def _read(self, image: Source) -> Pixels | DataError:
        try:
            return self.transform.pixels(image)
        except DataError as error:
            return error

    def prediction(self, image: Source, outputs_K: Tensor) -> Prediction:
        """Return what a row of ``outputs`` says of an image."""
        thresholds = self._calibration.thresholds if self._calibration else ()
        return Prediction(image, self._task, self._classes, outputs_K, thresholds)

    @torch.no_grad()
    def outputs(self, pixels_BHWC: Tensor) -> Tensor:
        """Return probabilities or regression outputs, float32 [B, K] on the CPU, for pixels of ``transform``."""
        with self._precision.autocast():
            logits = self._module(self._normalise(pixels_BHWC.to(self._device)))
        outputs = logits.float() if self._calibration is None else self._calibration.applied(logits.float())
        return activated(self._task, outputs).cpu()


def images_of(images: Source | Iterable[Source], suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Iterator[Source]:
    """Yield images in the given order; for a folder, yield every file below it with a suffix of images, sorted.

    Raises:
        DataError: a file or folder does not exist, or there are no images.
    """
    found = False
    for image in [images] if isinstance(images, Source) else images:
        for one in [image] if isinstance(image, Image.Image) else _files(Path(image), suffixes):
            found = True
            yield one
    if not found:
        raise DataError("the given folders hold no images; give image files or folders with images")


def _files(path: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    if not path.exists():
        raise DataError(f"the file or folder {path} does not exist")
    return (path / name for name in names_below(path, path, Surroundings(suffixes))) if path.is_dir() else iter([path])
