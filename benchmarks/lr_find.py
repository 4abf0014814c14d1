"""Compare what `lr_find` suggests with a sweep of seven learning rates, on two small sets of real images.

    python -m benchmarks.lr_find --tiny-imagenet FOLDER --out benchmarks/results/lr_find.json

The sets of benchmarks/techniques.py (`long tail` and `wide`), EfficientNet-Lite0 with its ImageNet weights, 40 px, AdamW, all
layers, 3 epochs. A page with tables is written beside the output file. Figures in the output file are not measured again, so you
can stop the command and start it again.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.demo import DEMO, prepare
from benchmarks.measure import Record
from benchmarks.techniques import BASELINE, METRIC, make_sets, on_tiny_imagenet
from dist_train import load_config, train
from dist_train.config.schema import Config
from dist_train.distributed.group import Dist
from dist_train.inference.rates.find_rate import measure as measure_curve
from dist_train.inference.rates.search import STEPS, Curve, suggested

RATES = ("0.001", "0.0032", "0.01", "3.2e-04", "1e-04", "3.2e-05", "1e-05")
"""From 1e-5 to 1e-2, the ones that decide first."""

Figures = dict[str, Any]


def config(root: Path, place: str, runs: Path, *changes: str) -> Config:
    """Return the config of one run: the baseline of benchmarks/techniques.py, smaller and shorter."""
    runs.mkdir(exist_ok=True)
    (runs / "baseline.yaml").write_text(BASELINE)
    places = (f"data.root={root}", f"run.output_dir={runs}", f"model.weights={DEMO / 'efficientnet_lite0.safetensors'}")
    shorter = ("data.image_size=40", "train.epochs=3", "eval.every_epochs=3", f"eval.metric={METRIC[place]}")
    return load_config(runs / "baseline.yaml", [*places, *shorter, *changes])


def score(root: Path, place: str, runs: Path, rate: str) -> float:
    """Train once. Return the score in percent."""
    result = train(config(root, place, runs, f"optim.lr={rate}"))
    shutil.rmtree(runs / "one")
    assert result.best is not None
    return result.best[METRIC[place]]


def curve(root: Path, place: str, runs: Path) -> dict[str, list[float]]:
    """Return rates and losses of a search, in one process."""
    found = measure_curve(config(root, place, runs, "optim.lr=0.001"), STEPS, Dist.alone())
    assert found is not None
    return {"rates": found.rates, "losses": found.losses}


def work(roots: dict[str, Path], runs: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the key of each figure and the function that measures it."""
    for place, root in roots.items():
        yield f"{place} | curve", partial(curve, root, place, runs)
    for rate in RATES:
        for place, root in roots.items():
            yield f"{place} | {rate}", partial(score, root, place, runs, rate)


def ways(found: Curve) -> dict[str, float | None]:
    """Return the suggestion of `lr_find`, and for comparison Lightning's and another one of fastai's."""
    smoothed, first = found.smoothed(), STEPS // 10
    steepest = min(range(first, len(smoothed) - 1), key=lambda step: smoothed[step + 1] - smoothed[step])
    finite = [loss if math.isfinite(loss) else math.inf for loss in smoothed]
    return {
        "minimum / 10 (`lr_find`)": suggested(found),
        "steepest (Lightning)": found.rates[steepest],
        "valley (fastai)": found.rates[first + _valley(finite[first:-5])],
    }


def _valley(losses: list[float]) -> int:
    """Return the middle of the longest falling subsequence: half of its second third, as fastai's `valley`."""
    lengths = [1] * len(losses)
    for end, loss in enumerate(losses):
        lengths[end] += max((lengths[start] for start in range(end) if losses[start] > loss), default=0)
    last = lengths.index(max(lengths))
    first, third = last - max(lengths), max(lengths) / 3
    return first + int(third) + int(third / 2)


def page(content: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the page."""
    figures: Figures = content["figures"]
    yield "# Suggested learning rates against a sweep: `lr_find`\n"
    yield f"{content['date']}, {content['hardware']}. `python -m benchmarks.lr_find`.\n"
    yield "EfficientNet-Lite0 with its ImageNet weights, 40 px, AdamW, all layers, 3 epochs, one seed. Score in percent.\n"
    yield "| set | metric | " + " | ".join(sorted(RATES, key=float)) + " |"
    yield "|---|---|" + "---|" * len(RATES)
    for place, metric in METRIC.items():
        cells = (figures.get(f"{place} | {rate}") for rate in sorted(RATES, key=float))
        yield f"| {place} | {metric} | " + " | ".join("" if cell is None else f"{cell:.1f}" for cell in cells) + " |"
    yield f"\nSuggestions from one search of {STEPS} steps, and their ratio to the best rate of the sweep:\n"
    yield "| set | way | rate | ratio |"
    yield "|---|---|---|---|"
    for place in METRIC:
        scores = {rate: figures[f"{place} | {rate}"] for rate in RATES if f"{place} | {rate}" in figures}
        if f"{place} | curve" in figures:
            for way, rate in ways(Curve(**figures[f"{place} | curve"])).items():
                ratio = f"{rate / float(max(scores, key=scores.__getitem__)):.2f}" if rate and scores else ""
                yield f"| {place} | {way} | {f'{rate:.1e}' if rate else 'none'} | {ratio} |"


def measure(tiny: Path, out: Path) -> None:
    record = Record(out)
    prepare()
    with tempfile.TemporaryDirectory(prefix="dist_train-benchmark-") as scratch:
        for key, figure in work(make_sets(tiny, Path(scratch) / "sets"), Path(scratch) / "runs"):
            record.measure(key, figure)
    out.with_suffix(".md").write_text("\n".join(page(record.content)) + "\n")


if __name__ == "__main__":
    on_tiny_imagenet(__doc__, measure)
