"""Hooks by name and as objects."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.config.sections.train import HookConfig
from dist_train.errors import ConfigError
from dist_train.hooks.base import Hook
from dist_train.hooks.open import open_hooks
from dist_train.run.named_code import named_code
from tests.support.runs import changed

HERE = __name__


class Quiet(Hook):
    def __init__(self, value: int = 0) -> None:
        self.value = value


class NoHook:
    """It has the methods, but not the class."""


def test_a_name_alone_is_a_hook_without_options(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, hooks=[f"{HERE}:Quiet", {"name": f"{HERE}:Quiet", "options": {"value": 3}}]))
    assert [(entry.name, entry.options) for entry in cfg.hooks] == [
        (f"{HERE}:Quiet", {}),
        (f"{HERE}:Quiet", {"value": 3}),
    ]
    assert [(code.key, code.spec) for code in named_code(cfg)] == [("hooks", f"{HERE}:Quiet")] * 2


def test_those_of_one_class_have_numbers() -> None:
    hooks = open_hooks([HookConfig(name=f"{HERE}:Quiet")], [Quiet(1), Quiet(2)])
    assert list(hooks._named) == [f"{HERE}:Quiet", f"{HERE}:Quiet #2", f"{HERE}:Quiet #3"]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (f"{HERE}:Missing", {}, "`hooks` .* has no Missing"),
        (f"{HERE}:Quiet", {"size": 1}, "`hooks` .* does not accept its `options`: .* 'size'"),
        (f"{HERE}:NoHook", {}, "makes a NoHook; it must be a subclass of dist_train.hooks.base.Hook"),
    ],
)
def test_what_is_no_hook_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_hooks([HookConfig(name=name, options=options)])


@pytest.mark.parametrize(
    ("hooks", "words"), [(["GoodEnough"], "must be package.module:Class"), ("a.b:C", "must be a list")]
)
def test_what_cannot_be_a_name_is_an_error_of_the_config(tree: dict[str, Any], hooks: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(changed(tree, hooks=hooks))


def test_an_object_of_another_class_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hooks: 3 must be an object of a subclass of dist_train\.hooks\.base\.Hook"):
        open_hooks([], [3])  # type: ignore[list-item]
