"""Compare what `probe` says about three models with fine-tuning all their layers, on two small sets of real images.

    python -m benchmarks.probe --tiny-imagenet FOLDER --out benchmarks/results/probe.json

EfficientNet-Lite0, 1 and 2 with their ImageNet weights at 40 px, on Fashion-MNIST (1,000 images of 10 classes) and on `wide` of
benchmarks/techniques.py (Tiny ImageNet, 1,000 images of 50 classes). Fine-tuning: AdamW at 0.001, 4 epochs, three seeds. A page
with tables is written beside the output file. Figures in the output file are not measured again, so you can stop the command and
start it again.
"""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from benchmarks.demo import DEMO, lite_weights, prepare
from benchmarks.measure import Record
from benchmarks.techniques import BASELINE, make_sets, on_tiny_imagenet
from dist_train import load_config, train
from dist_train.config.schema import Config
from dist_train.inference.probing.candidates import candidates
from dist_train.inference.probing.probe import probe

MODELS = tuple(f"tf_efficientnet_lite{number}" for number in range(3))
SEEDS = (0, 1, 2)
SHORTER = ("train.epochs=4", "eval.every_epochs=4", "eval.metric=top1", "optim.lr=0.001")


def config(root: Path, runs: Path, weights: Path, seed: int) -> Config:
    """Return the config of one run: the baseline of benchmarks/techniques.py, shorter."""
    runs.mkdir(exist_ok=True)
    (runs / "baseline.yaml").write_text(BASELINE)
    model = (f"model.name={weights.stem}", f"model.weights={weights}")
    places = (f"data.root={root}", f"run.output_dir={runs}", f"run.seed={seed}")
    return load_config(runs / "baseline.yaml", [*places, *model, *SHORTER])


def fine_tuned(root: Path, runs: Path, weights: Path, seed: int) -> list[float]:
    """Train all layers once. Return top-1 in percent and the seconds of CPU time."""
    began = time.process_time()
    result = train(config(root, runs, weights, seed))
    shutil.rmtree(runs / "one")
    assert result.best is not None
    return [result.best["top1"], time.process_time() - began]


def probed(root: Path, runs: Path, weights: Path) -> list[float]:
    """Probe one model. Return the linear score, its standard error, the score of k-NN, and the seconds of CPU time."""
    began, cfg = time.process_time(), config(root, runs, weights, 0)
    probe(cfg, candidates(cfg, None), "", runs / "probe.json")
    (row,) = json.loads((runs / "probe.json").read_text())["models"]
    line, near = row["verdicts"]["linear"], row["verdicts"]["knn"]
    return [line["score"], line["error"], near["score"], time.process_time() - began]


def work(roots: dict[str, Path], runs: Path, weights: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the key of each figure and the function that measures it."""
    for place, root in roots.items():
        for name in MODELS:
            yield f"{place} | {name} | probe", partial(probed, root, runs, weights / f"{name}.safetensors")
    for seed in SEEDS:
        for place, root in roots.items():
            for name in MODELS:
                file = weights / f"{name}.safetensors"
                yield f"{place} | {name} | {seed}", partial(fine_tuned, root, runs, file, seed)


def page(content: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the page."""
    figures: dict[str, list[float]] = content["figures"]
    places = list(dict.fromkeys(key.split(" | ")[0] for key in figures))
    yield "# Frozen features against fine-tuning: `probe`\n"
    yield f"{content['date']}, {content['hardware']}. `python -m benchmarks.probe`.\n"
    yield "Top-1 in percent at 40 px, ImageNet weights; 1,000 training images. Fine-tuning: all layers, AdamW 0.001, 4 epochs, mean"
    yield "of three seeds and the standard error of that mean. Seconds of CPU time: of the probe, and of one fine-tuning.\n"
    yield "| set | model | logistic | k-NN | fine-tuned | seconds |"
    yield "|---|---|---|---|---|---|"
    for place in places:
        for name in MODELS:
            line, error, near, seconds = figures[f"{place} | {name} | probe"]
            runs = [figures[f"{place} | {name} | {seed}"] for seed in SEEDS]
            scores = [score for score, _ in runs]
            spread = statistics.stdev(scores) / len(scores) ** 0.5
            cost = statistics.fmean(each for _, each in runs)
            yield (
                f"| {place} | {name} | {line:.1f} +- {error:.1f} | {near:.1f} | {statistics.fmean(scores):.1f} +- {spread:.1f} | "
                f"{seconds:.0f}, {cost:.0f} |"
            )
    yield ""
    for place in places:
        tuned = {name: statistics.fmean(figures[f"{place} | {name} | {seed}"][0] for seed in SEEDS) for name in MODELS}
        chosen = max(MODELS, key=lambda name: figures[f"{place} | {name} | probe"][0])
        lines = sorted((figures[f"{place} | {name} | probe"][:2] for name in MODELS), reverse=True)
        yield (
            f"- {place}: the probe's best is {lines[0][0] - lines[1][0]:.1f} points before its second, with a standard error of "
            f"{lines[0][1]:.1f}. It puts {chosen} first, fine-tuning {max(tuned, key=tuned.__getitem__)}. Who follows the probe has "
            f"{max(tuned.values()) - tuned[chosen]:.1f} points less than the best."
        )


def measure(tiny: Path, out: Path) -> None:
    record = Record(out)
    prepare()
    with tempfile.TemporaryDirectory(prefix="dist_train-benchmark-") as scratch:
        roots = {"Fashion-MNIST": DEMO / "fashion_mnist", "wide": make_sets(tiny, Path(scratch) / "sets")["wide"]}
        for name in MODELS:
            save_file(lite_weights(name), Path(scratch) / f"{name}.safetensors")
        for key, figure in work(roots, Path(scratch) / "runs", Path(scratch)):
            record.measure(key, figure)
    out.with_suffix(".md").write_text("\n".join(page(record.content)) + "\n")


if __name__ == "__main__":
    on_tiny_imagenet(__doc__, measure)
