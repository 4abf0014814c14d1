"""What a hook remembers and no checkpoint holds."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dist_train.errors import ConfigError
from dist_train.hooks.base import Hook
from dist_train.hooks.memory import Memory


class Remembers(Hook):
    transient = ("cache",)

    def __init__(self) -> None:
        self.count, self.seen, self.mean, self.lock = 0, {"a": [1]}, torch.zeros(2), threading.Lock()
        self.cache: list[int] = []


class Keeps(Remembers):
    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}


def _later(hook: Remembers) -> None:
    hook.new = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda hook: setattr(hook, "count", 1), "count"),
        (lambda hook: hook.seen["a"].append(2), "seen"),
        (lambda hook: hook.mean.add_(1), "mean"),
        (lambda hook: setattr(hook, "lock", threading.Lock()), "lock"),
        (_later, "new"),
        (lambda hook: delattr(hook, "count"), "count"),
    ],
)
def test_a_change_is_refused_with_the_name_of_the_attribute(change: Callable[[Hook], None], name: str) -> None:
    hook = Remembers()
    memory = Memory("mine", hook)
    memory.refuse_changes()
    change(hook)
    with pytest.raises(
        ConfigError, match=rf"`hooks` \(mine\) changes its attributes {name}, which no checkpoint holds"
    ):
        memory.refuse_changes()


def test_what_does_not_matter_or_is_in_the_checkpoint_may_change() -> None:
    hook, kept = Remembers(), Keeps()
    memories = [Memory("a", hook), Memory("b", kept)]
    hook.cache.append(1)
    hook.count = int("0")
    kept.count = 3
    for memory in memories:
        memory.refuse_changes()
