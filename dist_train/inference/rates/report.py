"""The curve as text, and as a picture."""

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

from dist_train.config.schema import Config
from dist_train.errors import ConfigError
from dist_train.inference.rates.search import Curve
from dist_train.system.terminal import PICTURES, check_output, check_suffix, digits

ROWS = 25
"""Rows of the table, about: the steps between two rows are as many as that takes."""


def table(curve: Curve, chosen: float | None) -> Iterator[str]:
    """Yield lines: rate, loss and smoothed loss of some steps at equal distances, of the last one, and of that whose rate is
    nearest to ``chosen``.
    """
    yield f"{'rate':>10}  {'loss':>9}  {'smoothed':>9}"
    last = len(curve.rates) - 1
    near = min(range(last + 1), key=lambda step: abs(math.log(curve.rates[step] / chosen))) if chosen else None
    for step, row in enumerate(zip(curve.rates, curve.losses, curve.smoothed(), strict=True)):
        if step % max(1, round(last / ROWS)) == 0 or step in (near, last):
            rate, loss, smoothed = row
            mark = "  <- suggested" if step == near else ""
            yield f"{rate:10.2e}  {digits(loss):>9}  {digits(smoothed):>9}{mark}"


def to_paste(cfg: Config, rate: float) -> str:
    """Return the overrides that set a learning rate; ``optim.lr_base`` would give another one."""
    also = " optim.lr_base=null" if cfg.optim.lr_base is not None else ""
    return f"optim.lr={rate:.2g}{also}"


def can_draw(picture: Path) -> None:
    """Check before the work that the picture can be drawn.

    Raises:
        ConfigError: matplotlib is missing, or the file has another ending or cannot be written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--picture needs matplotlib: pip install matplotlib")
    check_suffix("--picture", picture, PICTURES)
    check_output("--picture", picture)


def draw(path: Path, curve: Curve, chosen: float | None) -> None:
    """Draw loss and smoothed loss over the learning rate, and a line at the ``chosen`` rate."""
    from matplotlib.figure import Figure  # slow to import, and used only here

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(curve.rates, curve.losses, color="#9ecae1", linewidth=1, label="loss")
    axes.plot(curve.rates, curve.smoothed(), color="#08306b", label="smoothed")
    if chosen is not None:
        axes.axvline(chosen, color="#d94801", linestyle="--", label=f"suggested: {chosen:.2g}")
    finite = [loss for loss in curve.losses if math.isfinite(loss)]
    fall = curve.losses[0] - min(finite, default=math.nan)
    if fall > 0:  # else losses of a hundred times the first one would make the fall a straight line
        axes.set_ylim(min(finite) - 0.1 * fall, curve.losses[0] + 0.5 * fall)
    axes.set(xscale="log", xlabel="learning rate (optim.lr)", ylabel="training loss")
    axes.legend()
    figure.savefig(path, dpi=120)
