"""Which runs of a sweep go on: a function of their scores at the rung."""

from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from launch.jobs.halving import Seat, jobs_of, load, make_bracket, rungs, save, seat_of
from launch.jobs.job_options import JobOptions
from launch.jobs.option_values import Halving
from launch.runs.starts import read_submissions
from tests.launch.brackets import bracket, reach, write_config


def test_rungs_and_seats(tmp_path: Path) -> None:
    assert rungs(Halving(3, 2), 20) == [2, 6, 18]
    assert rungs(Halving(2, 4), 4) == []
    made = bracket(tmp_path, 12, [1, 3])
    assert [made.seats(rung) for rung in range(3)] == [12, 4, 1]
    assert (
        made.describe(9)
        == "halving: 12 run(s) to epoch 1, 4 run(s) to epoch 3, 1 run(s) to epoch 9; 24 % of the epochs of all runs"
    )


def test_the_best_at_a_rung_go_on_and_ties_are_broken_by_name(tmp_path: Path) -> None:
    made = bracket(tmp_path, 9, [1, 3])
    scores: list[float | None] = [0.5, 0.2, 0.9, 0.2, 0.1, 0.7, 0.8, None, 0.6]
    assert not made.complete(0)
    for number, score in enumerate(scores):
        reach(made, number, {1: score})
    assert made.complete(0) is False  # a row without the metric's value is none
    reach(made, 7, {1: 2.0}, status="failed")
    assert made.complete(0)
    assert made.runs(1) == [4, 1, 3]
    assert not made.complete(1)
    for number, score in ((1, 0.3), (3, 0.3), (4, 0.4)):
        reach(made, number, {1: 0.0, 3: score})
    assert made.runs(2) == [1]
    assert made.runs(1) == [1, 3, 4]  # by what is at the rung, whatever came later


def test_a_metric_of_which_more_is_better_nan_and_missing_runs(tmp_path: Path) -> None:
    made = bracket(tmp_path, 6, [1], eval="{metric: top1}")
    for number, score in enumerate([50.0, float("nan"), 70.0, 60.0]):
        reach(made, number, {1: score}, metric="top1")
    assert made.runs(1) == [2, 3]
    assert bracket(tmp_path, 4, [1], eval="{metric: top1}").runs(1) == [2]


def test_a_run_that_ended_early_counts_with_its_last_score(tmp_path: Path) -> None:
    made = bracket(tmp_path, 3, [1, 3])
    reach(made, 0, {1: 0.5, 2: 0.1}, status="done")
    for number in (1, 2):
        reach(made, number, {1: 0.6, 3: 0.2})
    assert made.score(0, 3) == 0.1
    assert made.reached(0, 1)
    assert made.reached(0, 2)


@pytest.mark.parametrize(
    ("values", "halving", "words"),
    [
        (
            {"train": "{global_batch: 4, epochs: 3}"},
            Halving(3, 3),
            r"must come before `train.epochs` \(3\); lower first_epoch",
        ),
        ({"eval": "{metric: loss, every_epochs: 2}"}, Halving(3, 1), "after epoch 1, where r0 has no evaluation"),
        ({"eval": "{metric: loss, every_steps: 20}"}, Halving(3, 1), "set `eval.every_steps` to null"),
        ({"train": "{global_batch: 4, max_steps: 9}"}, Halving(3, 1), "remove `train.max_steps`"),
        ({}, Halving(4, 1), r"a sweep of 3 run\(s\) has none to stop; lower factor"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, values: dict[str, str], halving: Halving, words: str
) -> None:
    config = str(write_config(tmp_path, **values))
    with pytest.raises(ConfigError, match=words):
        make_bracket(halving, [(config, [f"run.name=r{number}"]) for number in range(3)])


def test_runs_of_another_length_are_refused(tmp_path: Path) -> None:
    config = str(write_config(tmp_path))
    configs = [(config, [f"run.name=r{number}", f"train.epochs={8 + number}"]) for number in range(3)]
    with pytest.raises(ConfigError, match=r"\(8, 'loss'\) in r0 and \(9, 'loss'\) in r1"):
        make_bracket(Halving(3, 1), configs)


def test_one_run_alone_does_not_pause(tmp_path: Path) -> None:
    config = str(write_config(tmp_path, train="{global_batch: 4, epochs: 100}"))
    made = make_bracket(Halving(3, 1), [(config, [f"run.name=r{number}"]) for number in range(9)])
    assert made.rungs == [1, 3]


def test_a_seat_is_the_run_that_takes_it_up_to_the_rung(tmp_path: Path) -> None:
    made = bracket(tmp_path, 3, [1])
    file = tmp_path / "slurm: it" / "halving.json"
    save(made, file, ["7_0", "7_1"])
    assert load(file) == made
    assert jobs_of(file) == ["7_0", "7_1"]
    first = Seat(str(file), 0, 1, JobOptions())
    assert first.task().overrides == ["run.name=r01", "train.pause_epoch=1"]
    for number, score in enumerate([0.3, 0.1, 0.2]):
        reach(made, number, {1: score})
    last = seat_of(Seat(str(file), 1, 0, JobOptions()).words, JobOptions())
    assert last.task().overrides == ["run.name=r01", "train.pause_epoch=null"]
    for _ in range(2):
        last.record("8", nodes=2)
    assert [entry["job"] for entry in read_submissions(RunDir.of(made.config(1).run))] == ["8"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "halving.json").write_text('{"configs": 3}')
    with pytest.raises(ConfigError, match=r"halving.json is not the file of a sweep with --halving"):
        load(tmp_path / "halving.json")
