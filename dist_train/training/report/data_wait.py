"""How long training waits for data, and what to do about it."""

from dist_train.config.schema import Config
from dist_train.data.workers import loader_processes
from dist_train.system.cores import cores_per_rank

TOO_MUCH = 0.05
"""Share of the time that a run may wait for data before something is said."""

STEPS = 10
"""Steps after the first row before anything is said: the first row holds the start of the loader processes."""


class DataWait:
    """Adds up the time waited, from the second row of an attempt on."""

    def __init__(self) -> None:
        self._rows = self._steps = 0
        self._waited = self._elapsed = 0.0
        self.advice: str | None = None

    @property
    def share(self) -> float | None:
        """Of the time since the first row; None before anything can be said."""
        return self._waited / self._elapsed if self._steps >= STEPS else None

    def add(self, waited: float, elapsed: float, steps: int, cfg: Config) -> bool:
        """Take in a row: seconds waited, by the rank that waited longest, and seconds that its steps took.

        Returns:
            Whether ``advice`` is new: it is given once.
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
    """What to change, the most promising first."""
    ways = []
    workers = loader_processes(cfg.data)
    if workers < cores:
        ways.append(f"set data.workers={cores}, which is how many cores a rank has here")
    if not cfg.augment.device:
        ways.append("set augment.device=true, which leaves the loader next to nothing to do")
    if workers >= cores:
        ways.append(
            f"give each rank more CPU cores than these {cores} (--cpus-per-gpu of `dist-train slurm`) and as many workers"
        )
    if cfg.augment.randaugment is not None and cfg.augment.randaugment.interpolation == "bilinear":
        ways.append("set augment.randaugment.interpolation=nearest, which is another recipe at about half the cost")
    ways.append("store the images as JPEG no larger than training needs")
    if workers:
        ways.append(f"raise data.prefetch (now {cfg.data.prefetch}) if the disk stalls now and then")
    return f"{share:.0%} of the time is spent on waiting for data (data.workers is {workers}): {'; or '.join(ways)}"
