"""The page as a whole."""

from pathlib import Path

import numpy as np
import pytest

from dist_train.inference.reporting.page import Shown, html
from tests.support.gathered import gathered, write_classification, write_numbers
from tests.support.pages import Page, fits_a_window

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[2J"
PICTURE = "data:image/jpeg;base64,AAAA"


def test_hostile_names_are_text(tmp_path: Path) -> None:
    write_classification(tmp_path / "run", [[0.75, 0.25], [0.5, 0.5]], [1, 0], [HOSTILE, "b"], kept=2)
    run = gathered(tmp_path / "run", "classification", [HOSTILE, "plain"], advice=HOSTILE)
    page = Page(
        html(run, [(HOSTILE, [Shown(PICTURE, HOSTILE, [HOSTILE], 0, PICTURE), Shown(None, HOSTILE, [], 0)])], [HOSTILE])
    )
    assert list(page.outside()) == []
    assert page.count("script") == 0
    assert page.count("img") == 2
    assert page.text.count("<script>alert(1)</script>") > 6
    assert "\x1b" not in page.text
    assert "cannot be read" in page.text


def test_every_task_has_its_sections(tmp_path: Path) -> None:
    write_numbers(tmp_path / "run", [[0.25, 0.75], [0.5, 0.25]], [[1, 1], [0, 0]], [])
    for task, expected in (("multilabel", ["calibration", "ROC"]), ("regression", ["Predictions and targets"])):
        page = Page(html(gathered(tmp_path / "run", task, ["sun", "rain"]), [], []))
        assert [words in page.text for words in expected] == [True] * len(expected)
        assert ("Confusion" in page.text, "sun" in page.text) == (False, True)


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    run = gathered(tmp_path / "run", "classification", ["x"], best=None, last=None, status="running")
    page = Page(html(run, [], run.missing))
    assert "running" in page.text
    assert "no evaluation is saved yet" in page.text
    assert page.count("svg") == 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 500])
def test_it_fits_the_window_of_a_browser(tmp_path: Path, width: int) -> None:
    names = [f"{'a_long_name_without_spaces_' * 3}{k}" for k in range(38)]
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(len(names)), 200)
    paths = [f"val/{'deep/' * 20}{number}.jpg" for number in range(200)]
    write_classification(
        tmp_path / "run", probabilities, random.integers(0, len(names), 200).tolist(), paths, len(names)
    )
    run = gathered(tmp_path / "run", "classification", names, advice="words " * 60)
    shown = [Shown(None, path, [names[0], names[1]], 0) for path in paths[:9]]
    (tmp_path / "page.html").write_text(html(run, [("mistakes", shown)], [f"no room for {'x' * 300}"]))
    assert fits_a_window(tmp_path / "page.html", width, tmp_path)
