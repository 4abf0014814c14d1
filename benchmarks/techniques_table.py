"""Print the figures of ``benchmarks.techniques`` as a Markdown page.

python -m benchmarks.techniques_table benchmarks/results/techniques.json > benchmarks/results/techniques.md
"""

import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.techniques import BASELINE, METRIC, ONLY_IMBALANCED, RATES, SEEDS, TECHNIQUES, best_rate

Figures = Mapping[str, list[float]]


def page(content: Mapping[str, object], figures: Figures) -> Iterator[str]:
    yield "# What techniques gain\n"
    yield f"{content['date']}, {content['hardware']}. `python -m benchmarks.techniques`, `python -m benchmarks.techniques_table`.\n"
    yield (
        "EfficientNet-Lite0 with its ImageNet weights, all layers, 6 epochs at 40 px. `long tail`: 50 classes of Tiny ImageNet with "
        "60 to 3 training images, 1,000 validation images, balanced accuracy. `wide`: 50 other classes as strips of 64 x 36 pixels, "
        "20 training images each, 1,000 validation images, top-1.\n"
    )
    yield f"The baseline, to which each row adds one technique:\n\n```yaml\n{BASELINE}```\n"
    for place in METRIC:
        rates = ", ".join(f"{rate}: {_score(figures, place, f'rate {rate}', 0):.1f} %" for rate in RATES)
        yield f"Learning rate of `{place}`: {best_rate(dict(figures), place)}, the best of one seed ({rates}).\n"
    yield (
        f"Gain in points over the baseline of the same seed: mean of {len(SEEDS)} seeds and its standard error. A gain of less than "
        "two standard errors says nothing.\n"
    )
    yield "| technique | long tail | wide | CPU time |\n|---|---|---|---|"
    yield f"| baseline | {_level(figures, 'long tail')} | {_level(figures, 'wide')} | 1.00x |"
    for technique in TECHNIQUES:
        yield f"| {technique} | {_gain(figures, 'long tail', technique)} | {_gain(figures, 'wide', technique)} | {_time(figures, technique)} |"
    yield from _words(figures)


def _score(figures: Figures, place: str, technique: str, seed: int) -> float:
    return figures[f"{place} | {technique} | {seed}"][0]


def _gains(figures: Figures, place: str, technique: str) -> list[float]:
    keys = [seed for seed in SEEDS if f"{place} | {technique} | {seed}" in figures]
    return [_score(figures, place, technique, seed) - _score(figures, place, "baseline", seed) for seed in keys]


def _level(figures: Figures, place: str) -> str:
    scores = [_score(figures, place, "baseline", seed) for seed in SEEDS]
    return f"{statistics.mean(scores):.1f} % ± {_error(scores):.1f}"


def _error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _gain(figures: Figures, place: str, technique: str) -> str:
    gains = _gains(figures, place, technique)
    if not gains:
        return "no effect: classes are equal" if technique.startswith(ONLY_IMBALANCED) else "not measured"
    return f"{statistics.mean(gains):+.1f} ± {_error(gains):.1f}" + (
        f" ({len(gains)} seeds)" if len(gains) < len(SEEDS) else ""
    )


def _time(figures: Figures, technique: str) -> str:
    pairs = [(f"{place} | {technique} | {seed}", f"{place} | baseline | {seed}") for place in METRIC for seed in SEEDS]
    ratios = [figures[own][1] / figures[base][1] for own, base in pairs if own in figures]
    return f"{statistics.median(ratios):.2f}x" if ratios else ""


def _words(figures: Figures) -> Iterator[str]:
    """Say which techniques help, which hurt, and which do neither."""
    found: dict[str, list[str]] = {"helps": [], "hurts": []}
    for place in METRIC:
        for technique in TECHNIQUES:
            gains = _gains(figures, place, technique)
            if len(gains) == len(SEEDS) and abs(statistics.mean(gains)) > 2 * _error(gains):
                found["helps" if statistics.mean(gains) > 0 else "hurts"].append(f"{technique} ({place})")
    yield ""
    for what, names in found.items():
        yield f"By more than two standard errors {what}: {', '.join(names) or 'nothing'}.\n"
    yield "With three seeds some of these are chance; and a run of 6 epochs is short for Mixup, CutMix and the like."


def main() -> None:
    content = json.loads(Path(sys.argv[1]).read_text())
    print("\n".join(page(content, content["figures"])))


if __name__ == "__main__":
    main()
