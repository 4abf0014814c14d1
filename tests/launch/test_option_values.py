"""Values of the launcher's options."""

from argparse import ArgumentTypeError
from collections.abc import Callable

import pytest

from launch.option_values import memory, natural, pair, sbatch_option, walltime


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (natural, "0", 0),
        (memory, "64G", "64G"),
        (memory, "64GB", "64G"),
        (walltime, "1-12:00:00", "1-12:00:00"),
        (pair, "A=b=c", ("A", "b=c")),
        (sbatch_option, "gres=gpu:8", ("gres", "gpu:8")),
        (sbatch_option, "exclusive", ("exclusive", True)),
        (sbatch_option, "exclusive=", ("exclusive", True)),
        (sbatch_option, "--exclusive=true", ("exclusive", True)),
    ],
)
def test_what_is_read(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (natural, "-1", "'-1' must be a whole number, 0 or more"),
        (memory, "lots", "'lots' must be a memory size, such as 64G"),
        (walltime, "1 day", "1 day"),
        (pair, "A", "'A' must be KEY=VALUE"),
        (sbatch_option, "=1", "'=1' must be KEY=VALUE, or KEY"),
    ],
)
def test_what_is_refused(read: Callable[[str], object], text: str, words: str) -> None:
    with pytest.raises(ArgumentTypeError, match=words):
        read(text)
