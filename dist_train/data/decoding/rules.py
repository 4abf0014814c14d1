"""What a run decides about its images before the first one is decoded; the same for training, evaluation, prediction."""

from dataclasses import dataclass

from dist_train.config.types import MAX_PIXELS
from dist_train.data.decoding.value_range import Range


@dataclass(frozen=True)
class DecodeRules:
    """How to decode, beyond what a file says itself.

    Attributes:
        value_range: for images of more than 8 bits per channel. None where none was found when the run began: if one
            appears later, its own values decide.
        max_pixels: of an image, height x width; None for any number.
        channels, bits: of the pixels: ``data.channels`` and ``data.bits``.
        fast: a part of a JPEG file may be decoded at a fraction of its size: ``data.fast_decode``.
        as_0_1_0: the run began with version 0.1.0. Greys of 16 bits keep their upper 8, all others are stretched from
            their least to their greatest value, and Pillow decides what an array is.
    """

    value_range: Range | None = None
    max_pixels: int | None = MAX_PIXELS
    as_0_1_0: bool = False
    channels: int = 3
    bits: int = 8
    fast: bool = False

    @property
    def is_plain(self) -> bool:
        """Return whether the pixels are RGB of 8 bits, for which there are faster decoders."""
        return (self.channels, self.bits) == (3, 8)


DEFAULT_RULES = DecodeRules()
