"""Print the figures of ``benchmarks.head_init`` as a Markdown page.

python -m benchmarks.head_init_table benchmarks/results/head_init.json > benchmarks/results/head_init.md
"""

import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.head_init import CANDIDATES, FAMILIES, FINALISTS, LITES, SCRATCH_STEPS

Figures = Mapping[str, list[float]]

TASKS = ("Fashion-MNIST, top-1", "Tiny ImageNet, top-1", "regression, R2")
HEAD_ONLY = (
    (TASKS[0], "linear", "0.01"),
    (TASKS[0], "linear", "0.1"),
    (TASKS[1], "linear", "0.01"),
    (TASKS[1], "linear", "0.1"),
    (TASKS[2], "linear", "0.001"),
    (TASKS[2], "linear", "0.01"),
    (TASKS[2], "mlp", "0.001"),
    (TASKS[2], "mlp", "0.01"),
)


def page(content: Mapping[str, object], figures: Figures) -> Iterator[str]:
    yield "# Initial weights of a new head: `model.head.init`\n"
    yield f"{content['date']}, {content['hardware']}. `python -m benchmarks.head_init`, `python -m benchmarks.head_init_table`.\n"
    yield (
        "`zeros` is the default. Every class starts with the same score, so the first loss is ln K, and a regression starts "
        "at 0. `timm` keeps the init of each family; for EfficientNets it depends on the number of outputs: a standard "
        "deviation of 0.58 for one output and 0.18 for ten.\n"
    )
    yield "## Head only: EfficientNet-Lite with ImageNet weights, frozen\n"
    yield (
        "Three epochs at 64 px, batch 50, cosine; SGD with momentum 0.9 for classes, AdamW for the regression (brightness "
        "and covered share of a picture). Mean of three seeds. Fashion-MNIST: 1,000 images of 10 classes, 500 to validate; "
        "Tiny ImageNet: 20 training images of each of 200 classes, 10 to validate.\n"
    )
    yield from _head_only(figures)
    yield "\n## All layers, ImageNet weights\n"
    yield (
        "Two epochs, SGD 0.01 (regression: AdamW 0.001), one seed: loss of the first batch, then the score (one standard error "
        "is 2 points). Rows that are missing were not measured.\n"
    )
    yield from _pairs(figures, [f"all layers | {task} | {lite}" for task in TASKS for lite in LITES])
    yield f"\n## Random weights: five more families, {SCRATCH_STEPS} steps from scratch\n"
    yield (
        "Fashion-MNIST at 32 px, batch 32, AdamW 0.001, one seed: loss of the first batch (ln 10 is "
        f"{math.log(10):.3f}), then the mean loss of the last 50 steps. One seed decides "
        "little, but the loss after these steps is lower with `timm` in four of the five families: try it there.\n"
    )
    yield from _pairs(figures, [f"scratch | {family}" for family in FAMILIES])


def _head_only(figures: Figures) -> Iterator[str]:
    yield "| | lr | " + " | ".join(CANDIDATES) + " |"
    yield "|---|---|" + "---|" * len(CANDIDATES)
    for task, head, lr in HEAD_ONLY:
        for lite in LITES:
            cells = []
            for candidate in CANDIDATES:
                found = figures.get(f"head only | {task} | {head} | {lite} | {lr} | {candidate}")
                cells.append("" if found is None else _number(statistics.mean(found)))
            yield f"| {task}, {head}, {lite.removeprefix('tf_efficientnet_')} | {lr} | {' | '.join(cells)} |"


def _pairs(figures: Figures, prefixes: list[str]) -> Iterator[str]:
    yield "| | " + " | ".join(FINALISTS) + " |"
    yield "|---|" + "---|" * len(FINALISTS)
    for prefix in prefixes:
        found = [figures.get(f"{prefix} | {candidate}") for candidate in FINALISTS]
        if all(found):
            cells = [", ".join(map(_number, pair or ())) for pair in found]
            yield f"| {prefix.partition(' | ')[2].replace(' | tf_', ', ')} | {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def main() -> None:
    content = json.loads(Path(sys.argv[1]).read_text())
    print("\n".join(page(content, content["figures"])))


if __name__ == "__main__":
    main()
