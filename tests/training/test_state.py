"""The best evaluation, early stopping, the progress in old checkpoints, and the size of the state."""

from dataclasses import asdict
from typing import Any

import pytest

from dist_train.checkpoint.format import lay_out
from dist_train.checkpoint.store import MORE
from dist_train.config import parse_config
from dist_train.config.sections.train import EarlyStoppingConfig
from dist_train.distributed.group import Dist
from dist_train.training.setup import build_setup
from dist_train.training.state import Progress
from dist_train.training.step import train_step
from tests.support.ranks import run_ranks
from tests.support.runs import changed

NAN = float("nan")
PATIENT = EarlyStoppingConfig(patience=2, min_delta=1.0)


def noted(scores: list[float], metric: str = "top1", stopping: EarlyStoppingConfig | None = None) -> Progress:
    progress = Progress()
    for step, score in enumerate(scores, 1):
        progress.step = step
        progress.note({"loss": 100 - score if metric == "top1" else score, "top1": score}, metric, stopping)
    return progress


@pytest.mark.parametrize(("metric", "step", "score"), [("top1", 2, 3.0), ("loss", 3, 1.0)])
def test_the_best_is_kept_with_its_step(metric: str, step: int, score: float) -> None:
    progress = noted([2.0, 3.0, 1.0, 3.0, 1.0], metric)
    assert progress.best is not None
    assert (progress.best["step"], progress.best[metric]) == (step, score)
    assert progress.last is not None
    assert (progress.last["step"], progress.last["top1"]) == (5, 1.0)
    assert progress.evaluated == 5


def test_it_says_which_evaluation_is_the_best_so_far() -> None:
    progress = Progress()
    scores = [(2.0, 0.5), (2.0, 0.5), (2.0, 0.6), (2.0, 0.4), (1.0, 0.1), (2.5, 0.9)]
    found = [progress.note({"top1": top1, "loss": loss}, "top1", None) for top1, loss in scores]
    assert found == [True, False, False, True, False, True], "of equal scores, the one with the lower loss"


def test_small_gains_add_up_before_they_count() -> None:
    progress = noted([10.0, 10.6, 11.2], stopping=PATIENT)
    assert (progress.to_beat, progress.evaluations_without_gain) == (11.2, 0)
    assert progress.best is not None
    assert progress.best["top1"] == 11.2


def test_early_stopping_counts_evaluations_without_a_gain() -> None:
    progress = noted([10.0, 10.5], stopping=PATIENT)
    assert not progress.out_of_patience(PATIENT)
    progress.note({"top1": 10.9, "loss": 1.0}, "top1", PATIENT)
    assert progress.evaluations_without_gain == 2
    assert progress.out_of_patience(PATIENT)
    assert not progress.out_of_patience(None)
    progress.note({"top1": 12.0, "loss": 1.0}, "top1", PATIENT)
    assert not progress.out_of_patience(PATIENT)


@pytest.mark.parametrize(
    ("scores", "stopping", "why"),
    [
        ([10.0, 10.5], PATIENT, None),
        ([10.0, 10.5, 9.0], None, None),
        (
            [10.0, 10.5, 9.0],
            PATIENT,
            "early stopping: `top1` did not improve by more than 1 on 10 in 2 evaluation(s)",
        ),
        ([10.0, 9.0], EarlyStoppingConfig(patience=1), "early stopping: `top1` did not improve on 10 in 1 evaluation(s)"),
        ([NAN, NAN, NAN], PATIENT, "early stopping: `top1` was NaN in all 3 evaluations"),
        ([NAN, 10.0, 9.0, 9.0], PATIENT, "early stopping: `top1` did not improve by more than 1 on 10 in 2 evaluation(s)"),
        ([10.0, 9.0, NAN], PATIENT, "early stopping: `top1` did not improve by more than 1 on 10 in 2 evaluation(s); now it is NaN"),
    ],
)  # fmt: skip
def test_why_early_stopping_ends_a_run(
    scores: list[float], stopping: EarlyStoppingConfig | None, why: str | None
) -> None:
    assert noted(scores, stopping=stopping).early_end("top1", stopping) == why


def test_a_number_beats_nan() -> None:
    progress = noted([NAN, 1.0])
    assert progress.best is not None
    assert progress.best["step"] == 2


def test_of_evaluations_that_are_all_nan_the_one_with_the_lowest_loss_is_the_best() -> None:
    progress = Progress()
    found = [progress.note({"loss": loss, "map": NAN}, "map", None) for loss in (NAN, 0.5, 0.7, 0.4)]
    assert found == [True, True, False, True]


def test_progress_of_a_checkpoint_of_version_0_1_loads() -> None:
    saved = {
        "step": 5, "evaluated": 5, "best": {"step": 5, "top1": 50.0}, "last": {"step": 5, "top1": 50.0},
        "to_beat": 50.0, "evaluations_without_gain": 1, "skipped": 3,
    }  # fmt: skip
    assert asdict(Progress(**saved)) == saved


def _sizes(tree: dict[str, Any]) -> list[tuple[int, int]]:
    """Of each save of a run: the memory that was reserved for it, and the bytes of its tensors."""
    from dist_train.checkpoint import background_writer
    from dist_train.checkpoint.format import Layout, copy_into
    from dist_train.config import parse_config
    from dist_train.training.attempt import main

    seen: list[tuple[int, int]] = []

    def noted(memory: Any, layout: Layout) -> None:
        seen.append((len(memory), layout.payload_bytes))
        copy_into(memory, layout)

    background_writer.copy_into = noted
    assert main(parse_config(tree)) == 0
    return seen


@pytest.mark.parametrize("kind", ["adamw, EMA", "unfrozen later"])
def test_memory_for_a_save_is_reserved_before_the_first_save_and_fits(tree: dict[str, Any], kind: str) -> None:
    """If it were too small, the save itself would have to allocate it again."""
    tree = changed(tree, optim={"name": "adamw", "lr": 1e-3}, checkpoint__every_steps=3)
    tree = changed(tree, train__ema=0.9) if kind != "unfrozen later" else changed(tree, model__freeze="backbone")
    if kind == "unfrozen later":
        tree = changed(tree, model__unfreeze_epoch=1)
    [sizes] = run_ranks(1, _sizes, tree)
    assert len(sizes) == 5
    assert all(needed < reserved < 1.05 * needed + 2 * MORE for reserved, needed in sizes), sizes


@pytest.mark.parametrize("own_code", [False, True])
def test_what_a_forward_pass_may_change_is_copied_before_it(tree: dict[str, Any], own_code: bool) -> None:
    """Buffers and sums; weights, moments and the average only where no code of the user takes part."""
    model = {"name": "test_resnet", "pretrained": False}
    tree = changed(tree, model=model, train__ema=0.9, optim={"name": "adamw", "lr": 1e-3})
    setup = build_setup(parse_config(tree), Dist.alone())
    train_step(setup.stepper, setup.state)
    late = setup.state.changed_late(own_code)
    names = lay_out(setup.state.state_dict(setup.group)).names
    early = [name for name in names if not late(name)]
    parts = {name.split(".")[1] for name in early}
    assert parts == ({"model", "ema", "optimizer", "sums"} if own_code else {"model", "sums"})
    buffers = {f"state.model.{name}" for name, _ in setup.state.model.named_buffers()}
    assert buffers <= set(early)
    assert own_code or {name for name in early if name.startswith("state.model.")} == buffers
    assert {name.rsplit(".", 1)[1] for name in names if name.startswith("state.optimizer.")} == {
        "exp_avg",
        "exp_avg_sq",
        "step",
    }
