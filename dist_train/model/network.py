"""What other packages need to know about a model: the module, its head, and the images that it expects."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from dist_train.model.freeze import Stage

Channels = tuple[float, ...]


@dataclass(frozen=True)
class Network:
    """A model and the images that it expects.

    Attributes:
        module: maps images float32 [B, 3, S, S] to outputs [B, K]; in training mode, with auxiliary heads, to a tuple of
            outputs.
        head: the names of the parameters of the head.
        stages: what begins to train later, as ``model.unfreeze`` says.
        image_size: S in pixels.
        mean, std: per channel, for images in [0, 1].
        crop_pct: the share of the resized image that the center crop of an evaluation keeps.
        base: the names of the weights that never change and that no checkpoint holds (``model.lora``).
    """

    module: nn.Module
    head: frozenset[str]
    stages: "tuple[Stage, ...]"
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    base: frozenset[str] = frozenset()

    @property
    def later(self) -> frozenset[str]:
        """Return the names of the parameters that begin to train after an epoch."""
        return frozenset[str]().union(*(stage.names for stage in self.stages))


def statistics(mean: Channels | None, std: Channels | None, network: Network) -> tuple[Channels, Channels]:
    """Return mean and standard deviation of each channel, for images in [0, 1].

    Args:
        mean, std: `data.mean` and `data.std`; None means the model's own.
    """
    return mean or network.mean, std or network.std


def mean_colour(mean: Channels | None, network: Network) -> tuple[int, int, int]:
    """Return the mean as RGB, 0 to 255. It is the colour that normalisation maps closest to zero."""
    red, green, blue = (round(255 * value) for value in mean or network.mean)
    return red, green, blue
