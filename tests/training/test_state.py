"""The best evaluation, early stopping, and the progress in old checkpoints."""

from dataclasses import asdict

import pytest

from dist_train.config.sections.train import EarlyStoppingConfig
from dist_train.training.state import Progress

PATIENT = EarlyStoppingConfig(patience=2, min_delta=1.0)


def noted(scores: list[float], metric: str = "top1", stopping: EarlyStoppingConfig | None = None) -> Progress:
    progress = Progress()
    for step, score in enumerate(scores, 1):
        progress.step = step
        progress.note({"loss": score, "top1": score}, metric, stopping)
    return progress


@pytest.mark.parametrize(("metric", "step", "score"), [("top1", 2, 3.0), ("loss", 3, 1.0)])
def test_the_best_is_kept_with_its_step(metric: str, step: int, score: float) -> None:
    progress = noted([2.0, 3.0, 1.0, 3.0, 1.0], metric)
    assert progress.best == {"step": step, "loss": score, "top1": score}
    assert progress.last == {"step": 5, "loss": 1.0, "top1": 1.0}
    assert progress.evaluated == 5


def test_it_says_which_evaluation_is_the_best_so_far() -> None:
    progress = Progress()
    assert [progress.note({"top1": score}, "top1", None) for score in (2.0, 2.0, 1.0, 2.5)] == [
        True,
        False,
        False,
        True,
    ]


def test_small_gains_add_up_before_they_count() -> None:
    progress = noted([10.0, 10.6, 11.2], stopping=PATIENT)
    assert (progress.to_beat, progress.evaluations_without_gain) == (11.2, 0)
    assert progress.best is not None
    assert progress.best["top1"] == 11.2


def test_early_stopping_counts_evaluations_without_a_gain() -> None:
    progress = noted([10.0, 10.5], stopping=PATIENT)
    assert not progress.out_of_patience(PATIENT)
    progress.note({"top1": 10.9}, "top1", PATIENT)
    assert progress.evaluations_without_gain == 2
    assert progress.out_of_patience(PATIENT)
    assert not progress.out_of_patience(None)
    progress.note({"top1": 12.0}, "top1", PATIENT)
    assert not progress.out_of_patience(PATIENT)


def test_a_number_beats_nan() -> None:
    progress = noted([float("nan"), 1.0])
    assert progress.best is not None
    assert progress.best["step"] == 2


def test_progress_of_a_checkpoint_of_version_0_1_loads() -> None:
    saved = {
        "step": 5, "evaluated": 5, "best": {"step": 5, "top1": 50.0}, "last": {"step": 5, "top1": 50.0},
        "to_beat": 50.0, "evaluations_without_gain": 1, "skipped": 3,
    }  # fmt: skip
    assert asdict(Progress(**saved)) == saved
