"""How many loader processes a rank has."""

from dist_train.config.sections.data import DataConfig
from dist_train.system.machine.cores import cores_per_rank

MOST_WORKERS = 4
"""Where ``data.workers`` is null. More need much memory; the log says when more would help."""


def loader_processes(cfg: DataConfig) -> int:
    """Return ``data.workers``, or what fits the cores of this machine. The samples do not depend on it."""
    return cfg.workers if cfg.workers is not None else min(MOST_WORKERS, cores_per_rank())
