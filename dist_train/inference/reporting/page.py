"""The page: ``page.html``, filled. Names of classes, files and metrics are others' text: the template escapes every value."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_train.inference.reporting import tables
from dist_train.inference.reporting.figures import Figure, calibration, class_curves, scatters, training_curves
from dist_train.inference.reporting.gather import Gathered
from dist_train.system.foreign_text import printable


@dataclass(frozen=True)
class Shown:
    """An image with its caption, by ``data:`` URIs.

    Attributes:
        picture: None if the image cannot be read.
        output: of the model, which the first line is about.
        look: where the model looked; None if that is not shown.
    """

    picture: str | None
    name: str
    lines: list[str]
    output: int
    look: str | None = None


Galleries = list[tuple[str, list[Shown]]]
"""Titles with their images."""


def html(run: Gathered, galleries: Galleries, missing: list[str]) -> str:
    """Return the page. It needs no network and no other file.

    Args:
        missing: what it cannot show, and why: one sentence each.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # an extra

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    curves, no_room = training_curves(run)
    missing = missing + ([f"no room for the curves of {', '.join(no_room)}"] if no_room else [])
    return environment.get_template("page.html").render(
        title=run.folder.path.resolve().name,
        task=run.config.data.task,
        model=run.config.model.name,
        cards=tables.headline(run),
        scores=tables.scores(run),
        changed=tables.changed_settings(run.config),
        settings=tables.all_settings(run.config),
        facts=tables.facts(run),
        curves=curves,
        galleries=galleries,
        cam=any(image.look for _, images in galleries for image in images),
        advice=run.result.advice,
        missing=missing,
        updated=run.result.updated,
        **_of_predictions(run),
    )


def _of_predictions(run: Gathered) -> dict[str, Any]:
    """Return what the predictions give."""
    judged = run.judged
    if judged is None:
        return {"step": None, "table": None, "matrix": None, "pairs": None, "class_figures": []}
    reliability: list[Figure | None] = [calibration(run, judged)]
    return {
        "step": judged.step,
        "table": tables.per_class(run, judged),
        "matrix": tables.matrix(run, judged),
        "pairs": tables.confused_pairs(run, judged),
        "class_figures": [*class_curves(run, judged), *filter(None, reliability), *scatters(run, judged)],
    }


def _shown(value: object) -> object:
    """Return text without control characters. Markup, which is ours, stays as it is."""
    return printable(value) if type(value) is str else value
