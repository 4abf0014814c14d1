"""Pictures of where the model looked: validation images as an evaluation sees them, with a heat map over each."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dist_train.data.index import evaluation_index
from dist_train.data.loader import end_loaders
from dist_train.data.looking.pictures import pictures
from dist_train.data.pipeline import open_data
from dist_train.distributed.group import Dist
from dist_train.inference.open_run import open_run
from dist_train.inference.reporting.heat import heat_maps
from dist_train.inference.reporting.thumbnails import data_uri

BATCH = 8
STRENGTH = 0.55
"""The share of the heat map's colour where it is 1."""


def looks(path: Path, overrides: Sequence[str], trust: bool, wanted: Mapping[str, int]) -> dict[str, str]:
    """Return a ``data:`` URI for each image by name; without those that cannot be read. Empty if the model has no maps.

    Args:
        path: a run folder; its best weights look.
        overrides, trust: as in ``open_run``.
        wanted: name of an image -> the output of the model to explain.

    Raises:
        ConfigError, DataError: the weights or the data are missing, or the run's code came with its folder and is not trusted.
    """
    run = open_run(path, overrides=overrides, trust=trust)
    cfg = run.config.model_copy(update={"data": run.config.data.model_copy(update={"workers": 0, "cache": None})})
    index = evaluation_index(cfg.data, "val", run.classes, strict=False).with_rules(run.rules)
    numbers = {name: number for number in range(len(index.val)) if (name := index.val.name(number)) in wanted}
    group = Dist.alone()
    try:
        data = open_data(cfg, group, index, run.network, train=False)
        read: Callable[..., tuple[Tensor, ...]] = data.validation.dataset.__getitems__  # type: ignore[attr-defined]
        found: dict[str, str] = {}
        names = list(numbers)
        for start in range(0, len(names), BATCH):
            part = names[start : start + BATCH]
            images, _, indices = read([(0, numbers[name]) for name in part])
            readable = [place for place, number in enumerate(indices.tolist()) if number < len(index.val)]
            if not readable:
                continue
            batch_BCHW = data.normalise(images[readable].to(run.device))
            heat_BHW = heat_maps(run.model, batch_BCHW, [wanted[part[place]] for place in readable])
            if heat_BHW is None:
                return {}
            drawn = zip(readable, pictures(batch_BCHW, data.normalise), heat_BHW, strict=True)
            found |= {part[place]: data_uri(_over(picture, heat_HW)) for place, picture, heat_HW in drawn}
        return found
    finally:
        end_loaders()


def _over(picture_HW3: np.ndarray, heat_HW: torch.Tensor) -> np.ndarray:
    """Return an image below a heat map, uint8 [H, W, 3]: in grey where the map is 0."""
    import matplotlib

    heat_HW1 = heat_HW.numpy()[..., None]
    grey_HW3 = picture_HW3.mean(axis=2, keepdims=True).repeat(3, axis=2)
    colour_HW3 = 255 * matplotlib.colormaps["inferno"](heat_HW.numpy())[..., :3]
    share_HW1 = STRENGTH * heat_HW1
    over: np.ndarray = (grey_HW3 * (1 - share_HW1) + colour_HW3 * share_HW1).round().astype(np.uint8)
    return over
