"""Measure how long training waits for data, and advise what to change."""

from dist_train.config.ops.table import OPS
from dist_train.config.schema import Config
from dist_train.data.workers import loader_processes
from dist_train.system.machine.cores import cores_per_rank

TOO_MUCH = 0.05
"""If a run waits for data for more than this share of the time, it prints advice."""

STEPS = 10
"""Steps to measure before any advice. The first row does not count: it includes the start of the loader processes."""


class DataWait:
    """Adds up the waiting time of an attempt, from its second row."""

    def __init__(self) -> None:
        self._rows = self._steps = 0
        self._waited = self._elapsed = 0.0
        self.advice: str | None = None

    @property
    def share(self) -> float | None:
        """Return the share of time spent waiting since the first row; None until enough steps are measured."""
        return self._waited / self._elapsed if self._steps >= STEPS else None

    def add(self, waited: float, elapsed: float, steps: int, cfg: Config) -> bool:
        """Add a row.

        Args:
            waited: seconds that the slowest rank waited for data.
            elapsed: seconds that the ``steps`` took.

        Returns:
            Whether there is new ``advice``; it is given once.
        """
        self._rows += 1
        if self._rows == 1:
            return False
        self._waited, self._elapsed, self._steps = self._waited + waited, self._elapsed + elapsed, self._steps + steps
        if self.advice is not None or self.share is None or self.share <= TOO_MUCH:
            return False
        self.advice = advice(cfg, self.share, cores_per_rank())
        return True


def advice(cfg: Config, share: float, cores: int) -> str:
    """Return what to change, the most effective first."""
    ways = []
    workers = loader_processes(cfg.data)
    if workers < cores:
        ways.append(f"set data.workers={cores}, the number of CPU cores per rank")
    if not cfg.augment.device and all(OPS.find(op.name).device for op in cfg.augment.ops):
        ways.append("set augment.device=true, which moves most of the loader's work to the GPU")
    if workers >= cores:
        ways.append(
            f"give each rank more than {cores} CPU cores (--cpus-per-gpu of `dist-train slurm`) and as many data.workers"
        )
    if any(options.interpolation == "bilinear" for options, _ in cfg.augment.randaugments()):
        ways.append("set augment.randaugment.interpolation=nearest, about half the cost (but this changes the results)")
    ways.append("store the images as JPEG files no larger than training needs")
    if workers:
        ways.append(f"raise data.prefetch (now {cfg.data.prefetch}) if the disk pauses from time to time")
    return f"training waits for data {share:.0%} of the time (data.workers={workers}): {'; or '.join(ways)}"
