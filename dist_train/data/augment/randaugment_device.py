"""Crop, flip and RandAugment of a batch on its device, as drawn for each sample, by torchvision v2's functionals.

Samples with the same operation and magnitude go through a functional together. The host draws and decides everything:
it never waits for the device.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.overrides import TorchFunctionMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from dist_train.config.ops.options import RandAugment
from dist_train.config.sections.augment import AugmentConfig
from dist_train.config.types import Size
from dist_train.data.augment.draws import CODES, magnitude, operation
from dist_train.data.augment.frame import BLACK, MARGIN, Frame, covering, training_frame
from dist_train.data.augment.packed_draws import BOX, FLIP, OPERATIONS
from dist_train.data.decoding.picture import Colour

AT_ONCE = 16
"""Samples that are resized together: their floats, 28 MB at 384 px, stay in the cache of a large GPU."""


class DeviceOperations:
    """Applies draws to a batch of small images; the result has the model's size.

    Args:
        size: H and W of the model's input, in pixels.
        fill: colour of the margins of a padded image.
    """

    def __init__(self, cfg: AugmentConfig, size: Size, fill: Colour = BLACK) -> None:
        self._crop, self._size = cfg.crop, size
        self._randaugment = next((options for options, _ in cfg.randaugments()), RandAugment())
        self._draws_codes = bool(cfg.ops)
        self._frame = training_frame(cfg, size, fill)
        self._interpolation = InterpolationMode(cfg.interpolation)
        self._constants = KeptConstants()

    def __call__(self, images_BHWC: Tensor, draws: Tensor, rows: Tensor) -> Tensor:
        """Return uint8 [B, H, W, 3], of uint8 [B, h, w, 3].

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
        image = torch.zeros((1, 3, *self._size), dtype=torch.uint8, device=device)
        with self._constants:
            for code in CODES if self._draws_codes else ():
                self._applied(code, image)

    def _cropped(self, images: Tensor, boxes: list[list[int]]) -> Tensor:
        if self._frame is not None:
            return self._framed(images, self._frame)
        if self._crop == "random":
            return self._randomly_cut(images, boxes)
        if images.device.type != "cpu" and self._interpolation != InterpolationMode.NEAREST:
            return resized_in_floats(images, boxes, self._size, self._interpolation)
        size = list(self._size)
        parts = [
            F.resized_crop(image, *box, size, interpolation=self._interpolation, antialias=True)
            for image, box in zip(images, boxes, strict=True)
        ]
        return torch.stack(parts)

    def _randomly_cut(self, images: Tensor, boxes: list[list[int]]) -> Tensor:
        size = list(covering(self._size).resized(*images.shape[-2:]))
        wide = F.resize(images, size, interpolation=self._interpolation, antialias=True)
        wide = F.pad(wide, [MARGIN], padding_mode="reflect")
        return torch.stack([F.crop(image, *box) for image, box in zip(wide, boxes, strict=True)])

    def _framed(self, images: Tensor, frame: Frame) -> Tensor:
        size = list(frame.size)
        if frame.mode == "center":
            resized = F.resize(
                images, list(frame.resized(*images.shape[-2:])), interpolation=self._interpolation, antialias=True
            )
            return F.center_crop(resized, size)  # type: ignore[no-any-return]
        height, width = frame.resized(*images.shape[-2:])
        found: Tensor = F.resize(images, [height, width], interpolation=self._interpolation, antialias=True)
        if [height, width] == size:
            return found
        padded = found.new_empty((len(found), 3, *size))
        for channel, level in enumerate(frame.fill):
            padded[:, channel].fill_(level)
        top, left, height, width = frame.place(height, width)
        padded[:, :, top : top + height, left : left + width] = found
        return padded

    def _applied(self, code: int, images: Tensor) -> Any:
        """Return what torchvision's RandAugment makes of images, by an operation and its magnitude."""
        height, width = images.shape[-2:]
        amount = magnitude(code, self._randaugment.magnitude, height, width)
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
                chosen = self._randaugment
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
        return F.affine(
            images,
            angle=0.0,
            translate=[right, down],
            scale=1.0,
            shear=[math.degrees(math.atan(shear)), math.degrees(math.atan(shear_down))],
            interpolation=InterpolationMode(self._randaugment.interpolation),
            fill=list(map(float, self._randaugment.fill)),
            center=None if right or down else [0, 0],
        )


def resized_in_floats(images: Tensor, boxes: list[list[int]], size: Size, mode: InterpolationMode) -> Tensor:
    """Return uint8 [B, 3, H, W]: what ``F.resized_crop`` makes of each image where torch cannot resize uint8, as on GPUs.

    torchvision makes floats of each part, resizes, rounds and makes bytes: five operations for each sample. Here a sample is one
    operation, and the others are for several samples together.
    """
    done = []
    for first in range(0, len(boxes), AT_ONCE):
        # In one layout: the parts of images with their channels last take torch longer.
        floats = images[first : first + AT_ONCE].to(torch.float32, memory_format=torch.contiguous_format)
        found = torch.stack(
            [
                interpolate(
                    image[None, :, top : top + height, left : left + width],
                    size=size,
                    mode=mode.value,
                    align_corners=False,
                    antialias=True,
                )[0]
                for image, (top, left, height, width) in zip(floats, boxes[first:], strict=False)
            ]
        )
        if mode == InterpolationMode.BICUBIC:
            found.clamp_(0, 255)
        done.append(found.round_().to(torch.uint8))
    return torch.cat(done)


def _replace(images: Tensor, rows: Tensor, by: Tensor) -> None:
    images.index_copy_(0, rows, by)


def _groups(values: Tensor, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Return each value of a draw with the rows of the samples that drew it; ``rows`` are sorted by ``values``."""
    found, counts = torch.unique(values, return_counts=True)
    return zip(found.tolist(), rows.split_with_sizes(counts.tolist()), strict=True)


@contextmanager
def sums_in_any_order() -> Iterator[None]:
    """Allow equalize to count pixels: sums of integers are equal in any order, but deterministic mode forbids them."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class KeptConstants(TorchFunctionMode):
    """Keeps on the device what torchvision makes there from Python numbers at each call, such as matrices of shears.

    Without it the host would wait for the device at each call.
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
