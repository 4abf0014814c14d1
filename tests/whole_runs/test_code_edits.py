"""The code of a run is edited or removed in its first epoch: the run saves, evaluates and ends as if nothing had happened."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import dist_train
from tests.support.runs import changed, folder, published, rows, train

MY_CODE = """
import time
from torch import nn

class Slow(nn.Module):
    '''A model whose steps take long enough to edit its code in the first of them.'''

    def __init__(self, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))

    def forward(self, images):
        time.sleep(PAUSE_S)
        return self.layers(images)
"""


@contextmanager
def _started(code: Path, tree: dict[str, Any]) -> Iterator["subprocess.Popen[bytes]"]:
    """A run, as a command, of a copy of the code. Its output goes to the file ``output`` beside it."""
    shutil.copytree(Path(dist_train.__file__).parent, code / "dist_train", ignore=shutil.ignore_patterns("__pycache__"))
    (code / "my_code.py").write_text(MY_CODE.replace("PAUSE_S", "0.2"))
    (code / "run.yaml").write_text(yaml.safe_dump(tree))
    with open(code / "output", "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dist_train", "--config", "run.yaml"],
            cwd=code,
            env=os.environ | {"PYTHONPATH": str(code)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _break(code: Path, how: str) -> None:
    for path in [*(code / "dist_train").rglob("*.py"), code / "my_code.py"]:
        if how == "edited":
            path.write_text("raise SystemExit('this code is half edited')\n")
        else:
            path.unlink()


def _wait_for_the_first_step(run: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while not ((run / "metrics.jsonl").exists() and rows(run, "train")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("how", "memory"), [("removed", "full"), pytest.param("edited", "low", marks=pytest.mark.slow)]
)
def test_a_run_ends_without_its_code(tree: dict[str, Any], tmp_path: Path, how: str, memory: str) -> None:
    """Loader processes and W&B's uploader too. The end is that of a run whose code nobody touched."""
    tree = changed(
        tree,
        model={"name": "my_code:Slow", "pretrained": False},
        data__workers=1,
        data__persistent_workers=False,  # the second epoch starts other processes
        train__ema=0.5,
        checkpoint__memory=memory,
        log={"every_steps": 1, "tensorboard": True, "wandb": {"mode": "offline"}},
    )
    code, run = tmp_path / "code", folder(tree)
    with _started(code, tree) as process:
        _wait_for_the_first_step(run, process)
        assert not list((run / "checkpoints").glob("*")), "it is broken before the first save"
        _break(code, how)
        process.wait(200)
        output = (code / "output").read_text()
    print(output)
    assert process.returncode == 0
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["step"], result["error"]) == ("done", 10, None)
    assert len(list((run / "checkpoints").glob("step_*"))) == 2
    assert published(run).keys() == {"best.safetensors", "last.safetensors", "predictions.npz"}
    assert [row["step"] for row in rows(run, "val")] == [5, 10]
    assert output.count("the code has changed on disk since this start") == 1
    [noted] = json.loads((run / "provenance.json").read_text())["attempts"][0]["changed_code"]
    assert noted["count"] > 100
    assert len(noted["files"]) == 20


def test_the_code_of_another_start_is_not_reported(tree: dict[str, Any]) -> None:
    train(changed(tree, train__max_steps=2))
    attempts = json.loads((folder(tree) / "provenance.json").read_text())["attempts"]
    assert "changed_code" not in attempts[0]
