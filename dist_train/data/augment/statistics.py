"""Mean and standard deviation of the input, and the colour that both make zero."""

from dist_train.config.sections.data import DataConfig
from dist_train.data.decoding.picture import Colour
from dist_train.model.build import Network


def statistics(cfg: DataConfig, network: Network) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the three channels, of images in [0, 1]: those of ``data``, or the model's."""
    return cfg.mean or network.mean, cfg.std or network.std


def mean_colour(cfg: DataConfig, network: Network) -> Colour:
    """Return the mean as RGB: of all colours, it is the closest to zero after normalisation."""
    red, green, blue = (round(255 * value) for value in statistics(cfg, network)[0])
    return red, green, blue
