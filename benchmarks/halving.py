"""Successive halving against the full grid: the same best run, how many steps, and the same weights.

    python -m benchmarks.halving        # a few minutes; makes its images, trains 24 tiny runs twice

All runs train in this process, through the same bracket that the launcher uses.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import dist_train
from benchmarks.measure import markdown
from dist_train.config.load import dump_config, load_config
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.system.files import sha256_of
from launch.jobs.halving import Bracket, make_bracket
from launch.jobs.option_values import Halving
from launch.jobs.sweep import expand

RESULT = Path(__file__).parent / "results" / "halving.md"
EPOCHS = 16
SIZE = 32
HALVING = Halving(factor=2, first_epoch=2)
GRIDS = {
    "Learning rates 10 times apart": ["optim.lr=1e-5,1e-4,1e-3,1e-2", "optim.weight_decay=0.0,0.03,0.1"],
    "Learning rates 3 times apart": ["optim.lr=1e-4,3e-4,1e-3,3e-3,1e-2,3e-2", "optim.weight_decay=0.0,0.1"],
}
"""Neighbours of the second grid end within 2 % of each other."""
CONFIG = """
run: {{name: grid, output_dir: {runs}, deterministic: true}}
model: {{name: test_vit, pretrained: false}}
data: {{root: {images}, image_size: {size}, workers: 0}}
optim: {{name: adamw, lr: 1e-3}}
schedule: {{name: cosine, warmup_epochs: 1}}
train: {{epochs: {epochs}, global_batch: 40}}
eval: {{metric: loss, batch_size: 100}}
log: {{every_steps: 100, tensorboard: false, wandb: {{mode: disabled}}}}
"""


def make_images(root: Path, train: int = 200, val: int = 100, classes: int = 5) -> None:
    """Write images of 64 px of gratings in noise; the class is the direction of the grating."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 64
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            label = number % classes
            angle = np.pi * (label + random.uniform(-0.3, 0.3)) / classes
            wave = np.sin(2 * np.pi * (6 * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform()))
            pixels = 128 + 40 * wave[..., None] + random.normal(0, 60, (64, 64, 3))
            path = root / split / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def train(config: str, overrides: list[str]) -> None:
    """Train one run, as far as its config says."""
    dist_train.train(load_config(config, overrides))


def full_grid(bracket: Bracket) -> None:
    """Train all runs to their end."""
    for config, overrides in bracket.configs:
        train(config, overrides)


def halved(bracket: Bracket) -> None:
    """Train the runs of each rung to it."""
    for rung in range(len(bracket.rungs) + 1):
        for number in bracket.runs(rung):
            train(bracket.configs[number][0], bracket.overrides(number, rung))


def bracket_in(folder: Path, images: Path, grid: list[str]) -> Bracket:
    """Return the bracket of a grid, whose run folders lie in ``folder``."""
    base = folder / "base.yaml"
    base.parent.mkdir(parents=True)
    base.write_text(CONFIG.format(runs=folder, images=images, epochs=EPOCHS, size=SIZE))
    configs: list[tuple[str, list[str]]] = []
    for name, overrides in expand(grid, "grid"):
        path = folder / f"{name}.yaml"
        path.write_text(dump_config(load_config(str(base), [*overrides, f"run.name={name}"])))
        configs.append((str(path), []))
    return make_bracket(HALVING, configs)


def outcome(bracket: Bracket, number: int) -> dict[str, Any]:
    """Return what a run came to."""
    run = RunDir.of(bracket.config(number).run)
    result = read_result(run)
    weights = sha256_of(run.last)[:16] if run.last.exists() else ""
    return {"name": run.path.name, "step": result["step"], "loss": result["last"]["loss"], "weights": weights}


def section(title: str, grid: list[str]) -> str:
    """Train a grid both ways. Return its part of the page."""
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "images"
        make_images(images)
        full, half = (bracket_in(Path(scratch) / name, images, grid) for name in ("full", "half"))
        full_grid(full)
        halved(half)
        numbers = range(len(full.configs))
        both = [(outcome(full, number), outcome(half, number)) for number in numbers]
    rows = [
        [one["name"], f"{one['loss']:.4f}", one["weights"], str(two["step"]), f"{two['loss']:.4f}", two["weights"]]
        for one, two in sorted(both, key=lambda pair: float(pair[0]["loss"]))
    ]
    best = min((one for one, _ in both), key=lambda run: float(run["loss"]))
    ((alone, winner),) = [pair for pair in both if pair[1]["weights"]]
    steps = [sum(int(pair[side]["step"]) for pair in both) for side in (0, 1)]
    titles = ["run", "loss at the end", "last weights", "halving: steps", "its loss there", "last weights"]
    return SECTION.format(
        title=title,
        table=markdown(titles, rows),
        plan=half.describe(EPOCHS),
        losses=f"{winner['loss']:.4f}, {best['loss']:.4f}: {'the same run' if winner['name'] == best['name'] else 'not the same run'}",
        bits="yes" if winner["weights"] == alone["weights"] else "no",
        steps=f"{steps[1]} of {steps[0]} ({100 * steps[1] / steps[0]:.0f} %)",
    )


def main() -> None:
    """Train all grids and write the page."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    RESULT.write_text(TEXT + "".join(section(title, grid) for title, grid in GRIDS.items()))


TEXT = """# Successive halving against the full grid

`python -m benchmarks.halving`: grids of 12 runs of a tiny ViT (timm's `test_vit`) on images of gratings made by code, 64 px,
scaled to 32, 5 classes, 200 for training and 100 for validation. Runs are sorted by the loss at the end of the full grid; a
run of the halving without last weights paused.

Halving judges runs by how they begin. Where a slow starter ends best, it is dropped: a later first rung costs more steps and
drops fewer.
"""
SECTION = """
## {title}

{plan}

| | |
|---|---|
| loss of the winner of the halving, of the best of the full grid | {losses} |
| the winner's weights are bit-equal to those of its undisturbed run | {bits} |
| optimizer steps of all runs | {steps} |

{table}
"""


if __name__ == "__main__":
    main()
