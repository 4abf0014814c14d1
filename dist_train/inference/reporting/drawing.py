"""Figures as SVG elements inside a page, in the colours of the page: by matplotlib, with text as text."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#3b82c4", "#e0752d", "#2f9e63", "#9a6fd0", "#c9a227", "#d0577e", "#5fa8a0", "#8a8a8a", "#7a9a2e", "#b3562b")
"""Seen on white and on black."""
INK = "#010203"
"""A colour that no figure has: the page's own takes its place."""
SIZE = (4.8, 3.2)
"""Inches."""
AXES = (0.13, 0.14, 0.85, 0.82)
"""Left, bottom, width, height. A layout that matplotlib computes takes as long as the rest."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dist_train",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
    "axes.grid": True,
    "grid.alpha": 0.15,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


class Drawing:
    """An empty figure; after the block of ``drawn`` it has its ``svg``."""

    def __init__(self, axes: "Axes") -> None:
        self.axes = axes
        self.svg = ""


@contextmanager
def drawn() -> Iterator[Drawing]:
    """Give the axes to draw into; at the end of the block, write what was drawn."""
    import matplotlib  # slow to import, and an extra
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script that the font lacks: the browser has it
        figure = Figure(figsize=SIZE)
        drawing = Drawing(figure.add_axes(AXES))
        yield drawing
        content = io.StringIO()
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    drawing.svg = _inside_a_page(content.getvalue())


def _inside_a_page(svg: str) -> str:
    """Return the element without what only a file of its own has; the page decides its size."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'<g id="[^"]*">', "<g>", element)  # the same names would be in every figure of the page
    element = re.sub(r'^<svg ([^>]*?)width="[^"]*"', r'<svg role="img" \1', element, count=1)
    element = re.sub(r' height="[^"]*pt"', "", element, count=1)
    return element.replace(INK, "currentColor")
