"""What each technique gains: one change to a plain recipe, paired by seed, on two small sets.

    python -m benchmarks.techniques --tiny-imagenet FOLDER --out benchmarks/results/techniques.json
    python -m benchmarks.techniques_table benchmarks/results/techniques.json > benchmarks/results/techniques.md

EfficientNet-Lite0 with its ImageNet weights, 40 px, all layers, 6 epochs. `long tail`: 50 classes of Tiny ImageNet with 60 to 3
training images, judged by balanced accuracy. `wide`: 50 other classes, cut to 16:9, 20 training images each, judged by top-1.
Figures in the output file are not measured again, so you can stop the command and start it again.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image

import dist_train
from benchmarks.demo import prepare
from benchmarks.measure import Record

SEEDS = (0, 1, 2)
MOST, FEWEST = 60, 3
"""Training images of the most and the least frequent class of `long tail`."""
CLASSES, TRAIN_WIDE, VALIDATE = 50, 20, {"long tail": 20, "wide": 20}
METRIC = {"long tail": "balanced_accuracy", "wide": "top1"}
BASELINE = """\
model: {name: tf_efficientnet_lite0, weights: .demo/efficientnet_lite0.safetensors, channels_last: true}
data: {root: set, image_size: 40, workers: 0}
augment: {crop: random_resized, crop_scale: [0.35, 1]}
optim: {name: adamw, lr: 0.001, weight_decay: 0.05}
schedule: {warmup_epochs: 1}
train: {epochs: 6, global_batch: 50}
eval: {every_epochs: 6, batch_size: 100}
log: {tensorboard: false, wandb: {mode: disabled}}
run: {name: one}
"""
RATES = ("0.0003", "0.001", "0.003")
"""Learning rates of the baseline; each technique has the best one of its set."""
TECHNIQUES: dict[str, tuple[str, ...]] = {
    "label smoothing 0.1": ("loss.label_smoothing=0.1",),
    "Mixup 0.2": ("augment.mixup=0.2",),
    "CutMix 1.0": ("augment.cutmix=1.0",),
    "RandAugment (2, 9)": ("augment.ops=[randaugment]",),
    "TrivialAugment": ("augment.ops=[trivial_augment_wide]",),
    "random erasing 0.25": ("augment.erasing=0.25",),
    "EMA 0.98 with warm-up": ("train.ema={decay: 0.98, warmup: true}",),
    "layer decay 0.75": ("optim.layer_decay=0.75",),
    "gradual unfreezing": ("model.freeze=backbone", "model.unfreeze={1: 'blocks.[456]*', 2: all}"),
    "squash instead of crop": ("augment.crop=squash",),
    "class weights, effective number": ("loss.class_balance=effective_number",),
    "sampling by the root of the counts": ("data.sampling=sqrt",),
    "logit adjustment": ("loss.logit_adjustment=1",),
}
ONLY_IMBALANCED = ("class weights", "sampling", "logit adjustment")
"""Names of techniques that change nothing where all classes have the same number of images."""


def wanted(place: str, technique: str) -> bool:
    return place == "long tail" or not technique.startswith(ONLY_IMBALANCED)


def make_sets(tiny: Path, out: Path) -> dict[str, Path]:
    """Write both sets as class folders below ``out``. Return them by name."""
    for index, source in enumerate(sorted((tiny / "train").iterdir())[: 2 * CLASSES]):
        place = ("long tail", "wide")[index % 2]
        files = sorted((source / "images").iterdir())
        count = TRAIN_WIDE if place == "wide" else round(MOST * (FEWEST / MOST) ** (index // 2 / (CLASSES - 1)))
        parts = {"train": files[:count], "val": files[-VALIDATE[place] :]}
        for part, chosen in parts.items():
            folder = out / place.replace(" ", "_") / part / source.name
            folder.mkdir(parents=True)
            for file in chosen:
                if place == "wide":
                    band(file).save(folder / f"{file.stem}.png")
                else:
                    shutil.copy(file, folder)
    return {place: out / place.replace(" ", "_") for place in METRIC}


def band(file: Path) -> Image.Image:
    """Return the middle 64 x 36 pixels of an image."""
    return Image.open(file).convert("RGB").crop((0, 14, 64, 50))


def run(root: Path, place: str, seed: int, rate: str, changes: tuple[str, ...], runs: Path) -> list[float]:
    """Train once, with one thread. Return the score in percent and the seconds of CPU time of this process."""
    runs.mkdir(exist_ok=True)
    (runs / "baseline.yaml").write_text(BASELINE)
    places = (f"data.root={root}", f"run.output_dir={runs}")
    settings = (f"run.seed={seed}", f"optim.lr={rate}", f"eval.metric={METRIC[place]}")
    began = time.process_time()
    result = dist_train.train(dist_train.load_config(runs / "baseline.yaml", [*places, *settings, *changes]))
    assert result.best is not None
    shutil.rmtree(runs / "one")
    return [result.best[METRIC[place]], time.process_time() - began]


def best_rate(figures: dict[str, list[float]], place: str) -> str:
    return max(RATES, key=lambda rate: figures[f"{place} | rate {rate} | 0"][0])


def work(figures: dict[str, list[float]]) -> Iterator[tuple[str, str, int, str | None, tuple[str, ...]]]:
    """Yield key, set, seed, learning rate (None: the best one) and changes of each run, in the order in which they run."""
    for place in METRIC:
        for rate in RATES:
            yield f"{place} | rate {rate} | 0", place, 0, rate, ()
    for seed in SEEDS:
        for technique, changes in {"baseline": (), **TECHNIQUES}.items():
            for place in METRIC:
                if wanted(place, technique):
                    yield f"{place} | {technique} | {seed}", place, seed, None, changes


def measure(tiny: Path, out: Path) -> None:
    record = Record(out)
    figures: dict[str, list[float]] = record.figures
    prepare()
    with tempfile.TemporaryDirectory(prefix="dist_train-techniques-") as scratch:
        roots = make_sets(tiny, Path(scratch) / "sets")
        for key, place, seed, rate, changes in work(figures):
            chosen = rate or best_rate(figures, place)
            record.measure(key, partial(run, roots[place], place, seed, chosen, changes, Path(scratch) / "runs"))


def on_tiny_imagenet(about: str | None, measure: Callable[[Path, Path], None]) -> None:
    """Call ``measure`` with the folder of Tiny ImageNet and the output file that the command line names, on one thread."""
    parser = argparse.ArgumentParser(description=(about or "").split("\n\n")[0])
    parser.add_argument("--tiny-imagenet", type=Path, required=True, metavar="FOLDER", help="with train/<class>/images")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    measure(args.tiny_imagenet, args.out)


if __name__ == "__main__":
    on_tiny_imagenet(__doc__, measure)
