"""The example of docs/extending.md, which overrides what it needs of a hook."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import dist_train
import dist_train.training.attempt
from dist_train.config import parse_config
from dist_train.hooks.base import Hook, Start
from tests.support.examples import code_below
from tests.support.runs import changed, folder, rows, state_digest


def test_every_method_is_optional(tmp_path: Path) -> None:
    hook = Hook()
    hook.start(Start(tmp_path, 0, 1, 0, 10))
    assert hook.after_step(1, {}) is None
    assert hook.after_evaluation(1, {}) is None
    hook.end("done")
    hook.load_state_dict(hook.state_dict())


def test_the_example_ends_a_run_and_resumes_exactly(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,), (keys,) = code_below("extending.md", "A hook"), code_below("extending.md", "A hook", "yaml")
    path = tmp_path / code.splitlines()[0].removeprefix("# ")
    path.parent.mkdir()
    path.write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    hooks = yaml.safe_load(keys)["hooks"]
    hooks[0]["options"] = {"score": 0.0, "times": 3}
    tree = changed(tree, hooks=hooks, eval={"every_steps": 1}, checkpoint={"keep": 100}, schedule__name="constant")
    results = [dist_train.train(parse_config(changed(tree, run__name=name))) for name in ("straight", "resumed")]
    straight, resumed = (folder(changed(tree, run__name=name)) for name in ("straight", "resumed"))
    shutil.rmtree(sorted((resumed / "checkpoints").iterdir())[-1])
    results.append(dist_train.train(parse_config(changed(tree, run__name="resumed"))))
    assert [(result.status, result.step) for result in results] == [("done", 3)] * 3, "not after 3 more evaluations"
    assert results[-1].message == "my_project.hooks:GoodEnough: top1 was at least 0.0 in 3 evaluations"
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)
    again = dist_train.train(parse_config(changed(tree, run__name="resumed")))
    assert (again.status, again.step, again.attempt) == ("done", 3, 2), "it is already finished"
    without = dist_train.train(parse_config(changed(tree, run__name="resumed", hooks=[], train__max_steps=4)))
    assert (without.status, without.step, without.message) == ("done", 4, None)
    sys.modules.pop("my_project.hooks")
