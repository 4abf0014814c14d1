"""Images that look like another class: trained models that did not see them are confident of it.

Ranked by the margin between the probability of the most likely class and that of the label, as confident learning does (Northcutt,
Jiang and Chuang, 2021: "prune by noise rate", by margin).
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dist_train.data.doctor.findings import Finding
from dist_train.data.index import DataIndex, evaluation_index
from dist_train.data.loader import end_loaders
from dist_train.data.split import SplitName
from dist_train.distributed.group import Dist
from dist_train.distributed.stop import StopRequest
from dist_train.errors import ConfigError, DistTrainError
from dist_train.inference.open_run import open_run
from dist_train.inference.score import check_classes, score
from dist_train.system.foreign_text import printable

log = logging.getLogger(__name__)

KIND = "other class"
Probabilities = NDArray[np.float32]
"""[K]"""


def suspects(index: DataIndex, runs: Sequence[Path], trust: bool) -> list[Finding]:
    """Return the images for which the models predict another class than the label, the most confident first.

    Each run judges its own validation images; runs of all folds judge all images. Where several runs judge an image, the mean of
    their probabilities counts. Images that ``index`` does not have are left aside.

    Args:
        trust: run code that lies in the run folders, if their configs name it.

    Raises:
        ConfigError: the task is not classification, or a run has other classes or cannot be read.
    """
    if index.task != "classification":
        raise ConfigError(f"--run finds images of another class, but `data.task` is {index.task}; leave --run out")
    judged: defaultdict[str, list[Probabilities]] = defaultdict(list)
    try:
        for run in runs:
            for name, probabilities_K in _judged(index, run, trust):
                judged[name].append(probabilities_K)
    finally:
        end_loaders()
    known = {split.name(number) for split in (index.train, index.val) for number in range(len(split))}
    if aside := len(judged.keys() - known):
        log.warning(
            "%s images that the runs have judged are not in the data of the config, and are left aside", f"{aside:,}"
        )
    found = [row for split in ("val", "train") for row in _disagreements(index, split, judged)]
    return [row for _, row in sorted(found, key=lambda pair: -pair[0])]


def _judged(index: DataIndex, path: Path, trust: bool) -> Iterator[tuple[str, Probabilities]]:
    """Yield the name and the probabilities of each validation image of a run."""
    group = Dist.alone()
    run = open_run(path, device=group.device, trust=trust)
    check_classes(run.classes, index, f"the run {path}")
    own = evaluation_index(run.config.data, "val", run.classes, strict=False).with_rules(run.rules)
    with StopRequest(group) as stop:
        outcome = score(run.config, run.network, own, group, stop, keep=True)
    if outcome is None:
        raise DistTrainError("stopped by a signal before all images were judged; no table was written")
    assert outcome.outputs is not None
    places = np.flatnonzero(outcome.counted).tolist()
    yield from zip(map(own.val.name, places), outcome.outputs.numpy(), strict=True)


def _disagreements(
    index: DataIndex, name: SplitName, judged: dict[str, list[Probabilities]]
) -> Iterator[tuple[float, Finding]]:
    """Yield the margin and the row of each image of a split whose most likely class is not its label."""
    split = index.split(name)
    for number, label in enumerate(np.asarray(split.labels[:]).tolist()):
        image = split.name(number)
        if image in judged:
            mean_K = np.mean(judged[image], axis=0)
            likely = int(mean_K.argmax())
            if likely != label:
                shown = [f"{printable(index.classes[each])} {mean_K[each]:.2f}" for each in (likely, label)]
                detail = f"predicted {shown[0]}, labelled {shown[1]}"
                yield float(mean_K[likely] - mean_K[label]), Finding(image, "no", KIND, name, detail=detail)
