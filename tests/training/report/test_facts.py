"""What loggers learn of a run when an attempt begins."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.training.report.facts import details
from dist_train.training.setup import build_setup


@pytest.fixture
def setup(tree: dict[str, Any]) -> Any:
    return build_setup(parse_config(tree), Dist.alone("cpu"))


def test_the_facts_for_loggers(setup: Any) -> None:
    found = details(setup, attempt=3)
    assert (found["attempt"], found["plan"]["total_steps"], found["dataset"]["classes"]) == (3, 10, 3)
    assert (
        found["parameters"] == found["trainable_parameters"] == sum(p.numel() for p in setup.state.model.parameters())
    )
    assert found["git"] is None, "this start has recorded nothing"
