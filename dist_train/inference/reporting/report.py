"""The command ``report``: from a run folder to its page."""

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dist_train.data.formats.base import Images
from dist_train.errors import EXIT_DONE, ConfigError, DataError
from dist_train.inference.reporting.gather import Gathered, gather
from dist_train.inference.reporting.page import Galleries, Shown, html
from dist_train.inference.reporting.thumbnails import thumbnail, validation_images
from dist_train.inference.reporting.wrong import Chosen, selections
from dist_train.run.folder import RunDir
from dist_train.run.named_code import refuse_code_of_the_run
from dist_train.run.saved_config import run_config
from dist_train.system.files import atomic_write
from dist_train.system.terminal import check_output, check_suffix, log_to_console, writing_output
from dist_train.training.report.run_page import missing_packages

log = logging.getLogger(__name__)

Looks = Callable[[Path, Sequence[str], bool, Mapping[str, int]], dict[str, str]]


def report(
    path: Path,
    out: Path | None,
    most: int,
    overrides: Sequence[str] = (),
    trust: bool = False,
    looks: Looks | None = None,
) -> int:
    """Write the page of a run, and print where it is and what it lacks. Return the exit code.

    Args:
        out: the file; None for ``report.html`` in the run folder.
        most: images in each of two lists.
        overrides: ``key.path=value``, which replace values of the run's config: for data that has moved.
        trust: run code that lies in the run folder, if its config names it.
        looks: ``looks.looks``, to show where the model looked; it needs captum and the weights.

    Raises:
        ConfigError: the path is not a run folder, an override is wrong, a package is missing, the file cannot be written, or the
            config names code that came with the run folder and is not trusted.
    """
    log_to_console(0)
    folder = RunDir(path)
    file = out or folder.report
    cfg = run_config(path, overrides)
    _can_draw(file, looks is not None)
    if not trust:
        refuse_code_of_the_run(path, cfg)
    run = gather(folder, cfg)
    galleries, missing = _galleries(run, most)
    if looks is not None:
        galleries, more = _with_looks(galleries, partial(looks, path, overrides, trust))
        missing += more
    text = html(run, galleries, run.missing + missing)
    with writing_output("--out", file), atomic_write(file) as target:
        target.write(text.encode())
    for sentence in run.missing + missing:
        log.warning("report: %s", sentence)
    print(f"report: {file}")
    return EXIT_DONE


def _can_draw(file: Path, cam: bool) -> None:
    """Raise ConfigError if a package is missing or the file cannot be written."""
    if cam and importlib.util.find_spec("captum") is None:
        raise ConfigError("--cam needs captum: pip install captum, or the extra `cam`")
    if absent := missing_packages():
        raise ConfigError(f"report needs {', '.join(absent)}: pip install {' '.join(absent)}, or the extra `report`")
    check_suffix("--out", file, (".html", ".htm"))
    check_output("--out", file)


def _galleries(run: Gathered, most: int) -> tuple[Galleries, list[str]]:
    """Return the images with their captions, and a sentence for each thing that is missing."""
    chosen = selections(run, run.judged, most) if run.judged and most else []
    if not chosen:
        return [], []
    assert run.judged is not None
    paths = run.judged.paths
    if not paths:
        return [], ["the images have no files: their predictions are in the table, the images are not shown"]
    try:
        images = validation_images(run.folder, run.config, run.classes)
    except (ConfigError, DataError) as error:
        return [], [f"no images: {error}"]
    found = [(group.title, [_shown(images, paths[each.place], each) for each in group.images]) for group in chosen]
    unreadable = sum(image.picture is None for _, group in found for image in group)
    return found, [
        f"{unreadable} of the images cannot be read; if they have moved: --set data.root=FOLDER"
    ] if unreadable else []


def _shown(images: Images, name: str, chosen: Chosen) -> Shown:
    return Shown(thumbnail(images, name), name, chosen.lines, chosen.output)


def _with_looks(
    galleries: Galleries, looks: Callable[[Mapping[str, int]], dict[str, str]]
) -> tuple[Galleries, list[str]]:
    """Return the images with pictures of where the model looked, and a sentence if there are none."""
    wanted = {image.name: image.output for _, images in galleries for image in images if image.picture}
    if not wanted:
        return galleries, []
    try:
        found = looks(wanted)
    except (ConfigError, DataError) as error:
        return galleries, [f"where the model looked is not shown: {error}"]
    if not found:
        return galleries, ["where the model looked is not shown: no layer of it has a map of the image"]
    with_looks = [
        (title, [replace(image, look=found.get(image.name)) for image in images]) for title, images in galleries
    ]
    return with_looks, []
