"""``log.images``: what `dist-train look` draws, once when a run begins, for all loggers that take pictures."""

import importlib.util
import logging
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pictures

from dist_train.config.sections.log import LogConfig
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from dist_train.training.report.own_process import failure_of

if TYPE_CHECKING:
    from dist_train.loggers.base import Image

log = logging.getLogger(__name__)


def refuse_without_matplotlib(cfg: LogConfig) -> None:
    """Raise ConfigError if pictures are wanted and matplotlib is missing."""
    if cfg.images and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(
            "`log.images` needs matplotlib: pip install matplotlib, or the extra `plots`, or set it to false"
        )


def first_look(run: RunDir, world_size: int, timeout_s: float) -> "Image | None":
    """Draw ``look.png`` in the run folder, by a process of its own. Return the picture; None, with a warning, if that failed.

    Args:
        timeout_s: as in ``failure_of``.
    """
    path = run.look.resolve()
    words = ["look", "--config", str(run.config.resolve()), "--out", str(path), "--world-size", str(world_size)]
    why = failure_of(words, timeout_s)
    if why:
        log.warning("`log.images`: %s was not drawn: %s", run.look.name, why)
        return None
    with Pictures.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
