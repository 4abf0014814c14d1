"""The model card (Mitchell et al., 2019) of an exported model: a README.md as the Hugging Face hub shows it.

It says what the model is, on which data it was trained and measured, its settings and its limits. It holds no path, user or host.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dist_train import __version__
from dist_train.config.files.printed import changes
from dist_train.config.types import in_pixels
from dist_train.config.yaml_text import to_yaml
from dist_train.data.augment.frame import evaluation_frame
from dist_train.data.changed_files import Counts
from dist_train.evaluation.views import described
from dist_train.inference.open_run import OpenedRun
from dist_train.model.sources.hub import public_name
from dist_train.run.saved_config import Which

MOST_CLASSES = 200
"""Rows of the table of classes."""
FEW = 20
"""Training images of a class, below which the card names it among the limits."""
SECTIONS = ("model", "augment", "loss", "optim", "schedule", "train", "eval")
"""Sections of the config that say how the model was trained, and not where."""
SHARES = ("loss", "mae", "rmse", "r2")
"""Metrics that are no shares; all others are in percent."""

Listed = dict[str, Counts]
"""Images by split; empty if the run folder has no list of them."""

USE = """```python
import timm                                    # a folder: "local-dir:FOLDER"; on the hub: "hf-hub:OWNER/NAME"
model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))

from transformers import pipeline              # needs timm too
pipeline("image-classification", model="FOLDER")("photo.jpg")
```"""

RESIZING = (
    "`predict`, training and evaluation resize tensors; timm and transformers resize with Pillow. Both are bicubic or bilinear "
    "with antialiasing, but round differently: the probabilities of an image differ by some thousandths. On the same tensors "
    "the outputs are equal but for rounding."
)


def model_card(run: OpenedRun, which: Which, counts: Listed) -> str:
    """Return the text of the card.

    Args:
        which: the weights that were exported.
        counts: of ``listed_counts``.
    """
    parts = [
        _head(run),
        "## Use\n\n" + USE,
        "## Data\n\n" + _data(run, counts),
        "## Metrics\n\n" + _metrics(run, which, counts),
        f"## Settings\n\nWhat differs from the defaults of dist_train {__version__}:\n\n```yaml\n{_settings(run)}```",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(run, counts)),
    ]
    return "\n\n".join(parts) + "\n"


def _head(run: OpenedRun) -> str:
    cfg, size = run.config, in_pixels(evaluation_frame(run.config, run.network).size)
    kind = (
        "an image classifier"
        if cfg.data.task == "classification"
        else "a classifier of images with any number of labels"
    )
    tags = "\n".join(f"- {tag}" for tag in ("image-classification", "timm", "transformers"))
    return (
        f"---\nlibrary_name: timm\npipeline_tag: image-classification\ntags:\n{tags}\n---\n"
        f"# {_cell(cfg.run.name)}\n\n"
        f"{public_name(cfg.model.name)}, fine-tuned as {kind} for {len(run.classes)} classes, at {size} (height x width)."
    )


def _data(run: OpenedRun, counts: Listed) -> str:
    splits = [counts.get(split, Counts()).of_class for split in ("train", "val")] if counts else []
    rows = [[name, *(split[name] for split in splits)] for name in run.classes[:MOST_CLASSES]]
    titles = ["class", "training images", "validation images"] if counts else ["class"]
    rest = len(run.classes) - MOST_CLASSES
    return _table(titles, rows) + (f"\n\n{rest} more classes are in `config.json`." if rest > 0 else "")


def _metrics(run: OpenedRun, which: Which, counts: Listed) -> str:
    scores = (run.result.best if which == "best" else run.result.last) or {}
    if not scores:
        return "None: the run folder has no scores of these weights."
    chosen = (
        f"The weights are those with the best `{run.config.eval.metric}` of all evaluations of this same set, so that the scores "
        "are somewhat too good. "
        if which == "best"
        else ""
    )
    rows = [[name, _number(name, value)] for name, value in scores.items() if name != "step"]
    step = f", at step {scores['step']:.0f}" if "step" in scores else ""
    size = f" of {counts['val'].images:,} images" if "val" in counts else ""
    return f"Measured on the validation set{size}{step}. {chosen}No test set was used.\n\n" + _table(
        ["metric", "value"], rows
    )


def _number(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "undefined"
    return f"{value:.4g}" if name in SHARES else f"{value:.2f} %"


def _settings(run: OpenedRun) -> str:
    found = {name: values for name, values in changes(run.config).items() if name in SECTIONS}
    return to_yaml(_without_folders(found))


def _without_folders(value: Any) -> Any:
    """Return a value in which paths, which name folders of a machine, are the names of their files."""
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    if not isinstance(value, str):
        return value
    return Path(value).name if value.startswith(("/", "~", ".")) else public_name(value)


def _limits(run: OpenedRun, counts: Listed) -> list[str]:
    several = run.config.data.task == "multilabel"
    limits = [
        "It knows the classes above only"
        + ("." if several else ": an image of anything else gets one of them too, often with a high probability."),
        "The scores hold for images like those of the validation set.",
        RESIZING,
    ]
    train = counts.get("train", Counts()).of_class
    few = [name for name in run.classes if train[name] < FEW] if counts else []
    if few:
        names = ", ".join(map(_cell, few[:10])) + (f" and {len(few) - 10} more" if len(few) > 10 else "")
        limits.append(f"Fewer than {FEW} training images: {names}.")
    limits.append(_calibrated(run))
    if run.config.eval.tta is not None:
        limits.append(f"`predict` averages views ({described(run.config.eval.tta)}); this model takes one view.")
    limits.append("No licence is stated here. Those of the data and of the weights that training began with may apply.")
    return limits


def _calibrated(run: OpenedRun) -> str:
    found = run.calibration
    if found is None:
        return "Probabilities are not calibrated: they may be too high."
    text = f"Probabilities are calibrated: the head's weights are divided by the temperature {found.temperature:.3f}."
    if found.thresholds:
        each = zip(run.classes, found.thresholds, strict=True)
        text += (
            " An image has a label if its probability is above: "
            + ", ".join(f"{_cell(n)} {t:.3f}" for n, t in each)
            + "."
        )
    return text


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    """Return text that no renderer takes for markup or for the end of a cell."""
    return "".join(f"\\{c}" if c in "\\|`*_<>[]#" else c for c in " ".join(str(value).split()))
