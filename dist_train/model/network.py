"""What other packages need to know about a model: the module, its head, and the images that it expects."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from dist_train.config.types import UNPUBLISHED, Size
from dist_train.errors import ConfigError

if TYPE_CHECKING:
    from dist_train.config.sections.data import DataConfig
    from dist_train.model.freeze import Stage

Channels = tuple[float, ...]

CropMode = Literal["center", "squash", "border"]
Interpolation = Literal["bicubic", "bilinear", "nearest"]


@dataclass(frozen=True)
class Published:
    """How the publisher of a model's weights shows it images in an evaluation.

    Attributes:
        crop_pct: the size of the input, as a share of the size to which an image is resized before it is cut.
        crop_mode: timm's names; ``border`` is our ``pad``.
        test: the input size in the publisher's evaluation, and the crop_pct there, where they differ from those of
            training.
        left_aside: why the published test size is not used; empty if it is, or if there is none.
    """

    crop_pct: float = 1.0
    crop_mode: CropMode = "center"
    interpolation: Interpolation = "bicubic"
    test: tuple[Size, float] | None = None
    left_aside: str = ""


class HeadAlone(nn.Module):
    """The part of ``module`` at ``path``, for features [B, D]. Images [B, C, H, W] go through the whole module."""

    def __init__(self, module: nn.Module, path: str) -> None:
        super().__init__()
        self.module, self._path = module, path

    def forward(self, batch: Tensor) -> Any:
        return self.module.get_submodule(self._path)(batch) if batch.ndim == 2 else self.module(batch)


@dataclass(frozen=True)
class Network:
    """A model and the images that it expects.

    Attributes:
        module: maps images float32 [B, C, H, W] to outputs [B, K]; in training mode, with auxiliary heads, to a tuple of
            outputs.
        head: the names of the parameters of the head.
        stages: what begins to train later, as ``model.unfreeze`` says.
        image_size: H and W in pixels, of training.
        mean, std: per channel, for images in [0, 1]; empty if nobody published values for so many channels.
        channels: C.
        published: the evaluation for which the weights were published.
        base: the names of the weights that never change and that no checkpoint holds (``model.lora``).
        head_alone: the path of the head, where batches are features (``train.cached_features``); else None.
    """

    module: nn.Module
    head: frozenset[str]
    stages: "tuple[Stage, ...]"
    image_size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    published: Published = Published()
    channels: int = 3
    base: frozenset[str] = frozenset()
    head_alone: str | None = None

    @property
    def later(self) -> frozenset[str]:
        """Return the names of the parameters that begin to train after an epoch."""
        return frozenset[str]().union(*(stage.names for stage in self.stages))

    def of_batches(self, module: nn.Module) -> nn.Module:
        """Return what takes the batches of a run: ``module``, or the head of ``module``."""
        return module if self.head_alone is None else HeadAlone(module, self.head_alone)

    def blank_shape(self, images: int, size: Size | None = None) -> tuple[int, int, int, int]:
        """Return the shape of a batch, [B, C, H, W]; of the size of training if ``size`` is None."""
        return images, self.channels, *(size or self.image_size)


def statistics(cfg: "DataConfig", network: Network) -> tuple[Channels, Channels]:
    """Return mean and standard deviation of each channel, for images in [0, 1]: `data.mean` and `data.std`, or the model's.

    Raises:
        ConfigError: there are none for this number of channels.
    """
    mean, std = cfg.mean or network.mean, cfg.std or network.std
    if not mean or not std:
        raise ConfigError(UNPUBLISHED.format("std" if mean else "mean", cfg.channels))
    return mean, std


def mean_colour(cfg: "DataConfig", network: Network) -> tuple[int, ...]:
    """Return the mean in levels, 0 to 255 or 65535. It is the colour that normalisation maps closest to zero."""
    mean, _ = statistics(cfg, network)
    return tuple(round((2**cfg.bits - 1) * value) for value in mean)
