"""The picture: batches, class counts, shapes. Drawn by matplotlib."""

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_train.data.index import DataIndex
from dist_train.data.looking.shapes import Shapes
from dist_train.data.report.notes import class_counts
from dist_train.system.foreign_text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dist_train.data.looking.samples import Batch

COLUMNS = 8
CELL, TITLE, CHARTS = 1.7, 0.4, 3.6
"""Inches: the side of an image, the height of a title, that of the charts."""
CAPTION = 0.24
"""Height of a caption, in sides of an image."""
NAMED = 24
"""With more classes, the bars have no names."""
DPI = 100
TRAINING, EVALUATION = "#3182bd", "#e6550d"


@dataclass(frozen=True)
class Look:
    """What the picture shows.

    Attributes:
        title: one line about the run.
        training, evaluation: images of both splits.
    """

    title: str
    index: DataIndex
    training: "Batch"
    evaluation: "Batch"
    shapes: Shapes


def png(look: Look) -> bytes:
    """Return the picture as a PNG file."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script that the font lacks shows as boxes
        _figure(look).savefig(content, dpi=DPI)
    return content.getvalue()


def _figure(look: Look) -> "Figure":
    from matplotlib.figure import Figure  # slow to import, and an extra

    batches = [
        ("training images as the model gets them, after every transform", look.training),
        ("evaluation images as the model gets them", look.evaluation),
    ]
    heights = [TITLE + CELL * (1 + CAPTION) * _rows(batch) for _, batch in batches] + [CHARTS]
    figure = Figure(figsize=(COLUMNS * CELL, TITLE + sum(heights)))
    top = sum(heights)
    figure.text(0.5, (top + TITLE / 2) / figure.get_figheight(), look.title, ha="center", parse_math=False)
    for (title, batch), height in zip(batches, heights, strict=False):
        top -= height
        _draw_batch(figure, title, batch, (top / figure.get_figheight(), height / figure.get_figheight()))
    _draw_charts(figure, look)
    return figure


def _rows(batch: "Batch") -> int:
    return -(-len(batch.pictures) // COLUMNS)


def _draw_batch(figure: "Figure", title: str, batch: "Batch", place: tuple[float, float]) -> None:
    """Draw the images into one pair of axes, which is faster than one for each. ``place``: bottom and height."""
    bottom, height = place
    axes = figure.add_axes((0.01, bottom, 0.98, height))
    top = (1 + CAPTION) * _rows(batch)
    axes.set(xlim=(0, COLUMNS), ylim=(0, top + TITLE / CELL))
    axes.axis("off")
    about = f"{title} (mean {_numbers(batch.mean)}, std {_numbers(batch.std)})"
    axes.text(0, top + 0.05, about, fontsize=10, va="bottom")
    for number, (picture, text) in enumerate(zip(batch.pictures, batch.captions, strict=True)):
        left, upper = number % COLUMNS, top - (1 + CAPTION) * (number // COLUMNS)
        sides = np.array(picture.shape[:2]) / max(picture.shape[:2]) * 0.94
        extent = (left, left + sides[1], upper - CAPTION - sides[0], upper - CAPTION)
        axes.imshow(picture, extent=extent, interpolation="nearest", aspect="auto")
        axes.text(left, upper - CAPTION + 0.02, "\n".join(_lines(text)), fontsize=7, va="bottom", parse_math=False)
    axes.set(xlim=(0, COLUMNS), ylim=(0, top + TITLE / CELL))


def _lines(text: str) -> list[str]:
    """Return a caption in lines, each of which begins a part of a mixture."""
    return text.replace(" + ", "\n+ ").replace(", ", ",\n").split("\n")


def _numbers(values: list[float]) -> str:
    shown = ", ".join(f"{value:.2f}" for value in values[:4])
    return f"{shown}, ..." if len(values) > 4 else shown


def _draw_charts(figure: "Figure", look: Look) -> None:
    bottom, height = (inches / figure.get_figheight() for inches in (0.5, CHARTS - 1))
    counts, sizes, ratios, cut = (figure.add_axes((left, bottom, 0.18, height)) for left in (0.1, 0.34, 0.57, 0.8))
    _draw_targets(counts, look.index)
    pixels_N2, looked = look.shapes.sizes_N2, len(look.shapes.sizes_N2)
    sizes.scatter(pixels_N2[:, 1], pixels_N2[:, 0], s=6, alpha=0.4, color=TRAINING)
    sizes.set(title=f"sizes of {looked:,} training images", xlabel="width (pixels)", ylabel="height (pixels)")
    _histogram(ratios, look.shapes.ratios_N, "aspect ratios", "width by height")
    _histogram(cut, 100 * look.shapes.cut_N, "what an evaluation cuts away", "% of the image")
    for axes in (counts, sizes, ratios, cut):
        axes.title.set_fontsize(9)
        axes.tick_params(labelsize=7)


def _histogram(axes: "Axes", values: Any, title: str, label: str) -> None:
    axes.hist(values, bins=30, color=TRAINING)
    axes.set(title=title, xlabel=label, ylabel="images")


def _draw_targets(axes: "Axes", index: DataIndex) -> None:
    if index.task == "regression":
        _histogram(axes, index.train.labels[:][:, 0], "targets of training", printable(index.classes[0], 24))
        return
    places = np.arange(index.outputs)
    for split, shift, colour, name in (
        (index.train, -0.2, TRAINING, "training"),
        (index.val, 0.2, EVALUATION, "evaluation"),
    ):
        axes.barh(places + shift, class_counts(index.outputs, split.labels), height=0.4, color=colour, label=name)
    names = [printable(name, 18) for name in index.classes] if index.outputs <= NAMED else []
    axes.set_yticks(places[: len(names)], names, parse_math=False)
    axes.invert_yaxis()
    axes.set(title="images of each class", xlabel="images")
    axes.legend(fontsize=7)
