"""How a whole image of any shape becomes the model's input: cut the middle out, squash, or pad."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dist_train.config.types import Size, height_and_width, in_pixels
from dist_train.data.decoding.picture import Box, Colour
from dist_train.model.network import Interpolation, Network, mean_colour

if TYPE_CHECKING:
    from dist_train.config.schema import Config
    from dist_train.config.sections.augment import AugmentConfig
    from dist_train.config.sections.eval import EvalConfig

Mode = Literal["center", "squash", "pad"]
TrainingCrop = Literal["center", "random_resized", "random", "squash", "pad"]
BLACK: Colour = (0, 0, 0)
MOST_RESIZED_PIXELS = 2**26
"""200 MB. An image that would be resized to more, such as one of 1 x 10,000 pixels, is cut before it is resized."""

OUR_MODES: dict[str, Mode] = {"center": "center", "squash": "squash", "border": "pad"}
"""By timm's names."""


@dataclass(frozen=True)
class Frame:
    """Attributes:
    mode: ``center`` resizes an image until it covers ``scaled``; ``squash`` resizes it to ``scaled``; ``pad`` resizes it
        until it fits into ``scaled``. Then the middle is cut out, and where the image is smaller, margins are added.
    size: height and width of the result, in pixels.
    scaled: ``size`` or more, so that the borders of the image are cut away.
    fill: colour of the margins with ``pad``; they are black with ``center``, where only the thinnest images have any.
    interpolation: of resizing, with antialiasing (but ``nearest``).
    """

    mode: Mode
    size: Size
    scaled: Size
    fill: Colour = BLACK
    interpolation: Interpolation = "bicubic"

    def resized(self, height: int, width: int) -> Size:
        """Return the height and width to which an image is resized, before it is cut or padded."""
        if self.mode == "squash":
            return self.scaled
        taller = height * self.scaled[1] > width * self.scaled[0]
        if self.mode == "pad":
            if taller:
                return self.scaled[0], max(1, round(width * self.scaled[0] / height))
            return max(1, round(height * self.scaled[1] / width)), self.scaled[1]
        if self.scaled[0] == self.scaled[1]:  # as torchvision's Resize(int), which timm uses for squares
            shorter = min(height, width)
            return int(self.scaled[0] * height / shorter), int(self.scaled[0] * width / shorter)
        ratio = width / self.scaled[1] if taller else height / self.scaled[0]  # as timm's ResizeKeepRatio
        return round(height / ratio), round(width / ratio)

    def strip(self, height: int, width: int) -> Size:
        """Return how much of the middle of an image is resized: less than all if ``center`` would make it too large."""
        if self.mode != "center" or math.prod(self.resized(height, width)) <= MOST_RESIZED_PIXELS:
            return height, width
        scale = max(self.scaled[0] / height, self.scaled[1] / width)
        most = [
            round(scaled / scale) * (size // scaled + 2) for scaled, size in zip(self.scaled, self.size, strict=True)
        ]
        # As much is cut on the one side as on the other: half a pixel is many after resizing.
        height, width = (min(side, end + (side - end) % 2) for side, end in zip((height, width), most, strict=True))
        return height, width

    def cut_away(self, height: int, width: int) -> float:
        """Return the share of an image that is cut away, 0 to 1."""
        down, across = self.scaled[0] / height, self.scaled[1] / width
        if self.mode == "center":
            down = across = max(down, across)
        elif self.mode == "pad":
            down = across = min(down, across)
        return 1 - min(1.0, self.size[0] / (down * height)) * min(1.0, self.size[1] / (across * width))

    def place(self, height: int, width: int) -> Box:
        """Return where a resized image of at most this frame's size lies in the padded result."""
        return (self.size[0] - height) // 2, (self.size[1] - width) // 2, height, width


MARGIN = 4
"""Mirrored pixels around an image before ``augment.crop: random`` cuts a part out, as DeiT III does (Touvron et al., 2022)."""


def covering(size: Size, interpolation: Interpolation = "bicubic") -> Frame:
    """Return the frame of an image that is resized until it covers ``size``."""
    return Frame("center", size, size, interpolation=interpolation)


def with_margin(size: Size, height: int, width: int) -> Size:
    """Return the height and width of an image of ``height`` x ``width`` pixels that is resized to cover ``size``, with margins."""
    frame = covering(size)
    height, width = frame.resized(*frame.strip(height, width))
    return height + 2 * MARGIN, width + 2 * MARGIN


def training_frame(cfg: "AugmentConfig", size: Size, fill: Colour) -> Frame | None:
    """Return how training sees a whole image; None if it sees random parts."""
    if cfg.crop in ("random_resized", "random"):
        return None
    return Frame(fitting(cfg.crop), size, size, fill, cfg.interpolation)


def fitting(crop: TrainingCrop) -> Mode:
    """Return how an evaluation sees as much of an image as training with ``augment.crop``."""
    match crop:
        case "random_resized" | "random":
            return "center"
        case mode:
            return mode


def evaluation_frame(whole: "Config", network: Network) -> Frame:
    """Return how evaluation, prediction and export see an image.

    What the model was published with belongs to random_resized crops, which show objects larger. After a training without
    them, an evaluation sees all that training saw.
    """
    cfg, augment = whole.eval, whole.augment
    published, zoomed = network.published, augment.crop == "random_resized"
    size, crop_pct = network.image_size, published.crop_pct
    if not isinstance(cfg.size, str):
        size = height_and_width(cfg.size)
    elif cfg.size == "published" and zoomed and published.test is not None:
        size, crop_pct = published.test
    mode, own = _mode(cfg, augment, network)
    if not isinstance(cfg.crop_pct, str):
        crop_pct = cfg.crop_pct
    elif not zoomed or not own:
        crop_pct = 1.0
    interpolation = published.interpolation if cfg.interpolation == "published" else cfg.interpolation
    return Frame(mode, size, scaled_size(size, crop_pct), mean_colour(whole.data, network), interpolation)


def _mode(cfg: "EvalConfig", augment: "AugmentConfig", network: Network) -> tuple[Mode, bool]:
    """Return the mode of an evaluation, and whether the model's published crop_pct belongs to it."""
    match cfg.crop:
        case "center" | "squash" | "pad":
            return cfg.crop, cfg.crop == "center"
        case _ if augment.crop != "random_resized":
            return fitting(augment.crop), False
        case "published":
            return OUR_MODES[network.published.crop_mode], True
        case "auto":
            return "center", True


def scaled_size(size: Size, crop_pct: float) -> Size:
    """Return the size to which images are resized before ``size`` is cut out, rounded down as timm does."""
    # The addend corrects rounding where crop_pct is a ratio of two sizes, as torchvision gives them.
    return math.floor(size[0] / crop_pct + 1e-9), math.floor(size[1] / crop_pct + 1e-9)


def describe_evaluation(frame: Frame, network: Network) -> str:
    """Return a line for the log."""
    how = {"center": "until it covers", "squash": "to", "pad": "until it fits into"}[frame.mode]
    published = network.published
    note = ""
    if published.left_aside:
        note = f"; not at the size of its published test: {published.left_aside}"
    elif published.test is not None and frame.size == network.image_size:
        note = f"; its published test, after random_resized crops, has {in_pixels(published.test[0])} (`eval.size`)"
    return (
        f"evaluation: an image is resized ({frame.interpolation}) {how} {in_pixels(frame.scaled)} (height x width), and the "
        f"middle, {in_pixels(frame.size)}, is evaluated{note}"
    )
