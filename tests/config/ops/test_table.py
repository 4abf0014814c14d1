"""The table of operations: every row can be made with the fewest options, and is described."""

import pytest

from dist_train.config.ops.table import OPS
from dist_train.config.sections.augment import OpConfig
from dist_train.config.user_code import function_of
from dist_train.data.augment.ops import timm_policies, torchvision_ops
from tests.support.ops import FEWEST, entry


@pytest.mark.parametrize("name", list(OPS.rows))
def test_each_row_has_a_function_and_described_options(name: str) -> None:
    row = OPS.rows[name]
    assert set(row.options.abouts()) == set(row.options.model_fields)
    assert OpConfig.model_validate(entry(name)).p == row.p
    if name != "randaugment":
        assert function_of(OPS, name).__module__ in (torchvision_ops.__name__, timm_policies.__name__)


def test_the_fewest_options_are_those_without_a_default() -> None:
    needed = {
        name: {key for key, field in row.options.model_fields.items() if field.is_required()}
        for name, row in OPS.rows.items()
    }
    assert {name: keys for name, keys in needed.items() if keys} == {
        name: set(options) for name, options in FEWEST.items() if name != "color_jitter"
    }


def test_only_our_own_randaugment_works_on_the_device() -> None:
    assert [name for name, row in OPS.rows.items() if row.device] == ["randaugment"]
    assert OPS.own is not None
    assert not OPS.own.device
