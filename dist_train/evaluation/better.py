"""Which of two evaluations is better, and why a metric may be no number."""

import math

from dist_train.config.choices import METRICS, falls


def better(metric: str, new: float, old: float, by: float = 0.0) -> bool:
    """Return whether ``new`` is better than ``old`` by more than ``by``.

    For losses and errors lower is better, for other metrics higher. Every number is better than NaN.
    """
    if math.isnan(old):
        return not math.isnan(new)
    return new < old - by if falls(metric) else new > old + by


def better_scores(metric: str, new: dict[str, float], old: dict[str, float]) -> bool:
    """Return whether an evaluation is better than an older one; of equal ones (or both NaN) the one with the lower loss."""
    if better(metric, new[metric], old[metric]) or better(metric, old[metric], new[metric]):
        return better(metric, new[metric], old[metric])
    return better("loss", new["loss"], old["loss"])


def why_undefined(metric: str, scores: dict[str, float]) -> str:
    """Return why ``metric`` is not a finite number, for a sentence."""
    if not math.isfinite(scores["loss"]):
        return "the model's outputs are not finite"
    return METRICS.find(metric).undefined
