"""Kinds of errors and exit codes: launchers, scripts and run folders depend on them."""

from typing import get_args

from dist_train import errors
from dist_train.errors import DistTrainError, ErrorKind

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, DistTrainError)]


def test_every_kind_that_result_json_records_has_its_error() -> None:
    assert {error.kind for error in CLASSES} == set(get_args(ErrorKind))


def test_exit_codes_are_what_scripts_know() -> None:
    codes = (errors.EXIT_DONE, errors.EXIT_FAILED, errors.EXIT_USER, errors.EXIT_STOPPED)
    assert codes == (0, 1, 2, 75)


def test_what_one_rank_alone_can_meet_is_printed_by_that_rank() -> None:
    assert [error.__name__ for error in CLASSES if error.of_one_rank] == ["TooBigError"]


def test_only_a_run_that_is_taken_leaves_its_result_as_it_is() -> None:
    assert [error.__name__ for error in CLASSES if error.of_this_start] == ["TakenError"]
