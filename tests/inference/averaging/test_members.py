"""What is averaged, and what cannot be."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.errors import ConfigError
from dist_train.inference.averaging.members import Mean, members_of
from dist_train.inference.open_run import open_run
from tests.support.runs import changed, train


def test_a_mean_is_summed_in_float64_and_counters_are_of_the_first() -> None:
    states = [{"w": torch.tensor([float(i), 0.1]), "b": torch.ones(1), "steps": torch.tensor(i)} for i in (1, 2, 6)]
    mean = Mean.of(states[0]).with_one_more(states[1]).with_one_more(states[2])
    found = mean.state_dict()
    assert found["w"].tolist() == [3.0, pytest.approx(0.1)]
    assert found["w"].dtype == torch.float32
    assert (found["steps"].item(), mean.count, mean.differing) == (1, 3, {"w"})
    assert Mean.of(states[0]).state_dict()["w"].tolist() == states[0]["w"].tolist()


def refused(runs: list[Path], last: int | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        members_of([open_run(path, device="cpu") for path in runs], last)
    return str(error.value)


def test_what_is_averaged_and_what_is_refused(tree: dict[str, Any]) -> None:
    tree = changed(tree, train__epochs=1, checkpoint={"every_steps": 2, "keep": 3})
    one = train(tree, run__name="one")
    other = train(tree, run__name="other", model__name="test_resnet")
    checkpoints = members_of([open_run(one, device="cpu")], 2)
    assert [member.file.parent.name[:13] for member in checkpoints] == ["step_00000004", "step_00000005"]
    assert checkpoints[0].weights().keys() == checkpoints[1].weights().keys()
    assert "(3) is for the checkpoints of one run, but 2 runs are given" in refused([one, other], 3)
    assert "has 3 checkpoint(s), and an average needs 4" in refused([one], 4)
    assert "is given twice" in refused([one, other, one])
    text = refused([one, other])
    assert f"test_vit ({one}) and test_resnet ({other}) are different models" in text
    (other / "classes.json").write_text('["x", "class_b", "class_c"]')
    assert f"{other} has other classes than {one}" in refused([one, other])
    (checkpoints[0].file).write_bytes(b"")
    assert "is damaged; remove it" in refused([one])
