"""``checkpoint.keep_best``: the weights of the best evaluations by each of several metrics, as files in the run folder.

Which evaluations these are is in the checkpoint, so that a resumed run keeps those of the undisturbed one. Their files are
published together with the checkpoint of their step. A file goes when no checkpoint that may be the newest names it any more.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from dist_train.evaluation.better import better_scores
from dist_train.run.folder import RunDir

Kept = dict[str, list[dict[str, float]]]
"""By metric, the evaluations whose weights are kept, the best first: ``step``, ``loss`` and the metric."""


def weights_path(run: RunDir, metric: str, step: int) -> Path:
    """Return the file of the weights that are among the best by a metric.

    >>> weights_path(RunDir(Path("runs/a")), "my_metrics:recall_at_90", 40).name
    'best-my_metrics.recall_at_90-step_00000040.safetensors'
    """
    return run.path / f"best-{_in_a_name(metric)}-step_{step:08d}.safetensors"


def among_the_best(kept: Kept, step: int, scores: dict[str, float], wanted: dict[str, int]) -> tuple[Kept, list[str]]:
    """Put an evaluation among the best ones by each metric, where it is one of them.

    Args:
        step: the step of the evaluation, later than those in ``kept``.
        wanted: ``checkpoint.keep_best``: by metric, how many to keep.

    Returns:
        The best ones, and the metrics by which this one is among them.
    """
    found: Kept = {}
    for metric, count in sorted(wanted.items()):  # two YAML files with the same content have the same checkpoints
        mine, known = {"step": step, "loss": scores["loss"], metric: scores[metric]}, kept.get(metric, [])
        place = sum(not better_scores(metric, mine, row) for row in known)
        found[metric] = [*known[:place], mine, *known[place:]][:count]
    return found, [metric for metric, rows in found.items() if any(row["step"] == step for row in rows)]


class KeptWeights:
    """Removes the files of evaluations that others have driven out. For rank 0.

    Args:
        kept: of the checkpoint from which the attempt begins.
    """

    def __init__(self, run: RunDir, metrics: Iterable[str], kept: Kept) -> None:
        self._run, self._metrics = run, tuple(metrics)
        self._on_disk = self._paths(kept)

    def saving(self, kept: Kept) -> None:
        """Note that the checkpoint before this one is on disk, and that one with ``kept`` is being written."""
        now = self._paths(kept)
        self._remove_others(now | self._on_disk)
        self._on_disk = now

    def saved(self) -> None:
        """Note that all checkpoints are on disk."""
        self._remove_others(self._on_disk)

    def _paths(self, kept: Kept) -> set[Path]:
        return {weights_path(self._run, metric, int(row["step"])) for metric, rows in kept.items() for row in rows}

    def _remove_others(self, needed: set[Path]) -> None:
        """Remove the files of these metrics but ``needed``. Files of metrics that the config names no more stay."""
        for metric in self._metrics:
            name = f"best-{_in_a_name(metric)}-step_{'[0-9]' * 8}.safetensors"
            for path in set(self._run.path.glob(name)) - needed:
                path.unlink(missing_ok=True)


def _in_a_name(metric: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]", ".", metric)
