"""What the other rooms know of a model: the module, its head, and the images that it takes."""

from dataclasses import dataclass

from torch import nn

Channels = tuple[float, ...]


@dataclass(frozen=True)
class Network:
    """A model and what the data must look like for it.

    Attributes:
        module: maps images [B, 3, S, S] to outputs [B, K]; with auxiliary heads, in training, to a tuple of such.
        head: names of the parameters of the head.
        frozen: names of the parameters that ``model.freeze`` has switched off.
        image_size: S in pixels.
        mean, std: per channel, of images in [0, 1].
        crop_pct: share of the resized image that evaluation's central crop keeps.
    """

    module: nn.Module
    head: frozenset[str]
    frozen: frozenset[str]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float


def statistics(mean: Channels | None, std: Channels | None, network: Network) -> tuple[Channels, Channels]:
    """Return mean and standard deviation of each channel, of images in [0, 1].

    Args:
        mean, std: `data.mean` and `data.std`; the model's own if None.
    """
    return mean or network.mean, std or network.std


def mean_colour(mean: Channels | None, network: Network) -> tuple[int, int, int]:
    """Return the mean as RGB: of all colours, it is the closest to zero after normalisation."""
    red, green, blue = (round(255 * value) for value in mean or network.mean)
    return red, green, blue
