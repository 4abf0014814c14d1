"""``--check`` refuses operations that make different images of the same sample, by name."""

from typing import Any

import pytest

from dist_train.config.ops.table import OPS
from dist_train.data.augment.ops.forms import Place
from dist_train.data.augment.ops.verify import check_ops
from dist_train.errors import ConfigError
from tests.support.ops import EVERY, HERE, entry, ops

PLACE = Place(24, 24, (124, 116, 104), "bicubic")


def test_built_in_operations_pass() -> None:
    check_ops(ops(*(entry(name) for name in OPS.rows)), PLACE)


@pytest.mark.slow
def test_right_ones_of_ones_own_pass_in_another_process_too() -> None:
    check_ops(ops(*EVERY[-3:]), PLACE)


@pytest.mark.parametrize(("name", "options"), [("Unseeded", {}), ("Counts", {})])
def test_what_differs_when_it_is_applied_again_is_named(name: str, options: dict[str, Any]) -> None:
    wrong = {"name": f"{HERE}:{name}", **options}
    with pytest.raises(
        ConfigError, match=rf"`augment.ops.1` \({HERE}:{name}\) makes another image .* when it is applied again"
    ):
        check_ops(ops("vflip", wrong), PLACE)


@pytest.mark.parametrize("by", ["pid", pytest.param("text", marks=pytest.mark.slow)])
def test_what_differs_in_another_process_is_named(by: str) -> None:
    wrong = {"name": f"{HERE}:Process", "by": by}
    with pytest.raises(
        ConfigError, match=rf"`augment.ops.0` \({HERE}:Process\) makes another image .* in another process"
    ):
        check_ops(ops(wrong, f"{HERE}:Noise"), PLACE)
