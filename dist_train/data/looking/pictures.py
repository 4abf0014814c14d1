"""What a model gets, as pictures for people."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dist_train.data.augment.on_device import Normalise


def pictures(images_BCHW: Tensor, normalise: Normalise) -> Iterator[NDArray[np.uint8]]:
    """Yield images as RGB: the first three channels, or the only one as grey. Values outside of 0 to 1 are cut."""
    shares_BHWC = normalise.undone(images_BCHW).clamp_(0, 1).mul_(255).round_().to(torch.uint8).cpu().numpy()
    for pixels_HWC in shares_BHWC:
        channels = pixels_HWC.shape[2]
        yield pixels_HWC[:, :, :3] if channels >= 3 else np.repeat(pixels_HWC[:, :, :1], 3, axis=2)
