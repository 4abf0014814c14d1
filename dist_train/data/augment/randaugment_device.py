"""Crop, flip and RandAugment of a batch on its device, each sample as it was drawn, by torchvision v2's functionals.

Samples with the same operation and magnitude go through a functional together. All that is decided is decided on the
host, from draws that are made there: the device is never asked for anything.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from dist_train.config.sections.augment import AugmentConfig
from dist_train.data.augment.draws import CODES, Draws, magnitude, operation

BOX, FLIP, OPERATIONS = slice(0, 4), 4, slice(5, None)
"""Columns of draws in a tensor; no box is all zeros."""


def packed(draws: Iterable[Draws]) -> tuple[Tensor, Tensor]:
    """Draws as a tensor int64 [B, 5 + operations], and the rows of each kind of draw.

    The rows are int64 [1 + operations, B]: first the samples in the order of whether they are flipped, then in the order
    of their first operation, and so on. Slices of them pick samples on the device.
    """
    table = torch.tensor([[*(one.box or (0, 0, 0, 0)), int(one.flip), *one.codes] for one in draws])
    return table, table[:, FLIP:].argsort(dim=0, stable=True).T.contiguous()


class DeviceOperations:
    """Applies draws to a batch of small images; the result has the model's size."""

    def __init__(self, cfg: AugmentConfig, size: int) -> None:
        self._cfg, self._size = cfg, size
        self._interpolation = InterpolationMode(cfg.interpolation)
        self._constants = KeptConstants()

    def __call__(self, images_BHWC: Tensor, draws: Tensor, rows: Tensor) -> Tensor:
        """uint8 [B, h, w, 3] to uint8 [B, S, S, 3].

        Args:
            draws: on the host.
            rows: on the device of the images.
        """
        with self._constants:
            images = self._cropped(images_BHWC.permute(0, 3, 1, 2), draws[:, BOX].tolist()).contiguous()
            for flipped, chosen in _groups(draws[:, FLIP], rows[0]):
                if flipped:
                    _replace(images, chosen, F.horizontal_flip(images.index_select(0, chosen)))
            for codes, order in zip(draws[:, OPERATIONS].T, rows[1:], strict=True):
                for code, chosen in _groups(codes, order):
                    if operation(code) != "Identity":
                        _replace(images, chosen, self._applied(code, images.index_select(0, chosen)))
        return images.permute(0, 2, 3, 1)

    def prepare(self, device: torch.device) -> None:
        """Apply every operation once, so that its constants are on the device before the first step."""
        image = torch.zeros((1, 3, self._size, self._size), dtype=torch.uint8, device=device)
        with self._constants:
            for code in CODES if self._cfg.randaugment else ():
                self._applied(code, image)

    def _cropped(self, images: Tensor, boxes: list[list[int]]) -> Tensor:
        side = [self._size, self._size]
        if self._cfg.crop == "center":
            resized = F.resize(images, [self._size], interpolation=self._interpolation, antialias=True)
            return F.center_crop(resized, side)  # type: ignore[no-any-return]
        parts = [
            F.resized_crop(image, *box, side, interpolation=self._interpolation, antialias=True)
            for image, box in zip(images, boxes, strict=True)
        ]
        return torch.stack(parts)

    def _applied(self, code: int, images: Tensor) -> Any:
        """What torchvision's RandAugment does with an operation and its magnitude."""
        assert self._cfg.randaugment is not None
        height, width = images.shape[-2:]
        amount = magnitude(code, self._cfg.randaugment.magnitude, height, width)
        match operation(code):
            case "ShearX":
                return self._affine(images, shear=amount)
            case "ShearY":
                return self._affine(images, shear_down=amount)
            case "TranslateX":
                return self._affine(images, right=int(amount))
            case "TranslateY":
                return self._affine(images, down=int(amount))
            case "Rotate":
                chosen = self._cfg.randaugment
                mode = InterpolationMode(chosen.interpolation)
                return F.rotate(images, amount, interpolation=mode, fill=list(map(float, chosen.fill)))
            case "Brightness":
                return F.adjust_brightness(images, 1.0 + amount)
            case "Color":
                return F.adjust_saturation(images, 1.0 + amount)
            case "Contrast":
                return F.adjust_contrast(images, 1.0 + amount)
            case "Sharpness":
                return F.adjust_sharpness(images, 1.0 + amount)
            case "Posterize":
                return F.posterize(images, int(amount))
            case "Solarize":
                return F.solarize(images, 255 * amount)
            case "AutoContrast":
                return F.autocontrast(images)
            case _:
                with sums_in_any_order():
                    return F.equalize(images)

    def _affine(
        self, images: Tensor, right: int = 0, down: int = 0, shear: float = 0.0, shear_down: float = 0.0
    ) -> Any:
        assert self._cfg.randaugment is not None
        return F.affine(
            images,
            angle=0.0,
            translate=[right, down],
            scale=1.0,
            shear=[math.degrees(math.atan(shear)), math.degrees(math.atan(shear_down))],
            interpolation=InterpolationMode(self._cfg.randaugment.interpolation),
            fill=list(map(float, self._cfg.randaugment.fill)),
            center=None if right or down else [0, 0],
        )


def _replace(images: Tensor, rows: Tensor, by: Tensor) -> None:
    images.index_copy_(0, rows, by)


def _groups(values: Tensor, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each value of a draw with the rows of the samples that drew it; ``rows`` are in the order of ``values``."""
    found, counts = torch.unique(values, return_counts=True)
    return zip(found.tolist(), rows.split_with_sizes(counts.tolist()), strict=True)


@contextmanager
def sums_in_any_order() -> Iterator[None]:
    """Equalize counts pixels: sums of integers, the same in any order, which deterministic mode forbids on a GPU."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class KeptConstants(TorchFunctionMode):
    """Keeps on the device what torchvision makes there from Python numbers at each call, such as matrices of shears.

    Making it anew would have the host wait for the device each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.tensor:
            return func(*args, **kwargs)
        key = repr((args, kwargs))
        if key not in self._kept:
            self._kept[key] = func(*args, **kwargs)
        return self._kept[key].clone()  # torchvision writes to some
