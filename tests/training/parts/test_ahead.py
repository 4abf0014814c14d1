"""What the end of a run needs is imported before its first step."""

import subprocess
import sys

import pytest

from dist_train.config.choice_table import TASKS, Task

EVALUATED = """
import sys
import torch
from dist_train.training.attempt import main
from dist_train.training.parts.ahead import import_ahead
from tests.support.evaluations import evaluated

task = sys.argv[1]
import_ahead(task)
before = set(sys.modules)
labels = torch.arange(12) % 3 if task == "classification" else torch.eye(3).repeat(4, 1)
evaluated(task, torch.rand(12, 3), labels)
print(sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_imports_nothing_more(task: Task) -> None:
    done = subprocess.run([sys.executable, "-c", EVALUATED, task], capture_output=True, text=True, timeout=120)
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["[]"], 0), done.stderr
