"""How a whole image of any shape becomes the model's square: cut the middle out, squash, or pad."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dist_train.data.decoding.picture import Box, Colour
from dist_train.model.network import Channels, Network, mean_colour

if TYPE_CHECKING:
    from dist_train.config.sections.augment import AugmentConfig

EvalCrop = Literal["auto", "center", "squash", "pad"]
BLACK: Colour = (0, 0, 0)


@dataclass(frozen=True)
class Frame:
    """Attributes:
    mode: ``center`` resizes the shorter side and cuts the middle out; ``squash`` resizes both sides to ``size``; ``pad``
        resizes the longer side to ``size``, and adds margins of ``fill``.
    size: of the square, in pixels.
    shorter: with ``center``, the length of the shorter side before the middle is cut out, in pixels.
    """

    mode: Literal["center", "squash", "pad"]
    size: int
    shorter: int
    fill: Colour = BLACK

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width to which an image is resized, before it is cut or padded."""
        if self.mode == "squash":
            return self.size, self.size
        if self.mode == "pad":
            longer = max(height, width)
            return max(1, round(height * self.size / longer)), max(1, round(width * self.size / longer))
        shorter = min(height, width)
        return int(self.shorter * height / shorter), int(self.shorter * width / shorter)

    def cut_away(self, height: int, width: int) -> float:
        """Return the share of an image that is cut away, 0 to 1."""
        if self.mode != "center":
            return 0.0
        kept = self.size / self.shorter * min(height, width)  # pixels of the image, along each side
        return 1 - min(kept, height) * min(kept, width) / (height * width)

    def place(self, height: int, width: int) -> Box:
        """Return where an image of this height and width lies in the padded square."""
        return (self.size - height) // 2, (self.size - width) // 2, height, width


def training_frame(cfg: "AugmentConfig", size: int, fill: Colour) -> Frame | None:
    """Return how training sees a whole image; None if it sees random parts."""
    return None if cfg.crop == "random_resized" else Frame(cfg.crop, size, size, fill)


def evaluation_frame(crop: EvalCrop, augment: "AugmentConfig", mean: Channels | None, network: Network) -> Frame:
    """Return how evaluation, prediction and export see an image.

    Args:
        crop: `eval.crop`.
        mean: `data.mean`; the model's own if None.
    """
    mode, size = crop, network.image_size
    if mode == "auto":
        mode = "center" if augment.crop == "random_resized" else augment.crop
    shorter = shorter_side(size, kept_share(augment, network.crop_pct))
    return Frame(mode, size, shorter, mean_colour(mean, network))


def kept_share(cfg: "AugmentConfig", crop_pct: float) -> float:
    """Return the share of the shorter side that ``center`` keeps: the model's ``crop_pct`` after random crops, else 1.

    Random crops show objects larger, and cutting the middle out makes up for that. Without them it only loses pixels.
    """
    return crop_pct if cfg.crop == "random_resized" else 1.0


def shorter_side(size: int, crop_pct: float) -> int:
    """Return the length of the shorter side after resizing, in pixels, rounded down as timm does."""
    # The addend corrects rounding where crop_pct is a ratio of two sizes, as torchvision gives them.
    return math.floor(size / crop_pct + 1e-9)
