"""Figures as elements of a page."""

import matplotlib
import pytest

from dist_train.inference.reporting.drawing import INK, drawn
from tests.support.pages import Page


@pytest.mark.filterwarnings("error")
def test_a_figure_takes_the_colours_of_its_page_and_escapes_text() -> None:
    before = dict(matplotlib.rcParams)
    with drawn() as drawing:
        drawing.axes.plot([0, 1], [0, 1], label="<script>$x$ 数")
        drawing.axes.legend()
    assert dict(matplotlib.rcParams) == before
    page = Page(drawing.svg)
    assert page.elements[0][0] == "svg"
    assert {"width", "height"} & page.elements[0][1].keys() == set()
    assert "<script>$x$ 数" in page.text
    assert list(page.outside()) == []
    assert "currentColor" in drawing.svg
    assert INK not in drawing.svg
