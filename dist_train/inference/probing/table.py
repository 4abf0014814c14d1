"""The comparison as text, and as a document."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cmp_to_key
from typing import Any

from dist_train.config.schema import Config
from dist_train.config.types import Size
from dist_train.data.index import DataIndex
from dist_train.evaluation.better import better
from dist_train.inference.probing.fits import MOST_ITERATIONS
from dist_train.inference.probing.judge import Verdict
from dist_train.system.foreign_text import printable
from dist_train.system.terminal import digits


@dataclass(frozen=True)
class Speed:
    """Images per second while features were computed, by all ranks; seconds for the features, and for the fits on them."""

    images_per_s: float
    features_s: float
    fits_s: float


@dataclass(frozen=True)
class Found:
    """What is known about one model.

    Attributes:
        weights: where its weights come from.
        gflops: of the forward pass of one image at ``image_size``.
        verdicts: by the name of the method.
    """

    name: str
    weights: str
    parameters: int
    gflops: float
    features: int
    image_size: Size
    verdicts: dict[str, Verdict]
    speed: Speed


def ranked(rows: Sequence[Found], metric: str) -> list[Found]:
    """Return the models by the score of the linear method, the best first."""

    def order(one: Found, other: Found) -> int:
        a, b = one.verdicts["linear"].score, other.verdicts["linear"].score
        return int(better(metric, b, a)) - int(better(metric, a, b))

    return sorted(rows, key=cmp_to_key(order))


def table(rows: Sequence[Found], index: DataIndex, cfg: Config) -> Iterator[str]:
    """Yield lines: the models, the best first, and what the columns mean."""
    linear = "ridge" if index.task == "regression" else "logistic"
    metric, width = cfg.eval.metric, max(5, *(len(printable(row.name)) for row in rows))
    yield (
        f"{'model':{width}}  {linear:>16}  {'C':>6}  {'k-NN':>16}  {'k':>3}  {'params':>8}  {'GFLOP':>6}  {'px':>9}  "
        f"{'images/s':>8}  {'seconds':>7}"
    )
    for row in rows:
        near, line, speed = row.verdicts["knn"], row.verdicts["linear"], row.speed
        yield (
            f"{printable(row.name):{width}}  {_with_error(line):>16}  {line.setting:>6g}  {_with_error(near):>16}  "
            f"{near.setting:>3g}  {row.parameters / 1e6:>7.3g}M  {row.gflops:>6.3g}  "
            f"{_pixels(row.image_size):>9}  {speed.images_per_s:>8.4g}  "
            f"{speed.features_s + speed.fits_s:>7.0f}"
        )
    yield ""
    yield (
        f"{metric} on {len(index.val):,} validation images, with its standard error (bootstrap); fitted to the features of "
        f"{len(index.train):,} training images"
    )
    yield f"C and k are chosen on a fifth of the training images; a fit takes at most {MOST_ITERATIONS} iterations"
    if any(row.weights == "random" for row in rows):
        yield "note: `model.pretrained` is false: models without a file have random weights"


def _with_error(verdict: Verdict) -> str:
    return f"{digits(verdict.score)} +- {verdict.error:.2g}"


def _pixels(size: Size) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def document(rows: Sequence[Found], index: DataIndex, cfg: Config) -> dict[str, Any]:
    """Return the comparison as plain values, with all digits."""
    return {
        "metric": cfg.eval.metric,
        "images": {"train": len(index.train), "val": len(index.val)},
        "models": [asdict(row) for row in rows],
    }
