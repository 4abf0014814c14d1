"""Small pictures of validation images, decoded as the run decodes them, as text that a page can hold."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dist_train.config.schema import Config
from dist_train.data.decode_rules import rules_of
from dist_train.data.decoding.picture import Pixels
from dist_train.data.formats.base import Images
from dist_train.data.index import evaluation_index
from dist_train.data.stored.scan_file import read_scan
from dist_train.errors import DataError
from dist_train.run.folder import RunDir

SIDE, QUALITY = 160, 80
"""Pixels of the longer side, and the quality of the JPEG: about 6 kB."""


def validation_images(folder: RunDir, cfg: Config, classes: Sequence[str]) -> Images:
    """Return the images of a run by name: from the scan in its folder if the data lie where they lay, else from a new scan.

    Raises:
        ConfigError, DataError: the data are missing, or not laid out as ``data.format`` says.
    """
    kept = read_scan(folder.scan)
    if kept is not None and kept.index.root == cfg.data.root:
        return kept.index.images.with_rules(rules_of(cfg.data, folder))
    found = evaluation_index(cfg.data, "val", classes, strict=False)
    return found.images.with_rules(rules_of(cfg.data, folder))


def thumbnail(images: Images, name: str) -> str | None:
    """Return an image as a ``data:`` URI; None if it cannot be read."""
    try:
        pixels = images.open(name).pixels()
    except DataError:
        return None
    return data_uri(as_rgb(pixels))


def data_uri(pixels_HW3: NDArray[np.uint8]) -> str:
    """Return an image as a small JPEG."""
    picture = Image.fromarray(pixels_HW3)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def as_rgb(pixels_HWC: Pixels) -> NDArray[np.uint8]:
    """Return an image as RGB, uint8 [H, W, 3]: its first three channels, or the first one as grey; of 16 bits the high ones."""
    shown = (pixels_HWC >> 8).astype(np.uint8) if pixels_HWC.dtype == np.uint16 else pixels_HWC.astype(np.uint8)
    return np.ascontiguousarray(shown[:, :, :3] if shown.shape[2] >= 3 else np.repeat(shown[:, :, :1], 3, axis=2))
