"""What the end of a run needs is imported before its first step."""

import subprocess
import sys

from dist_train.config.choice_table import TASKS

EVALUATED = """
import os
import sys
import torch
from dist_train.training.attempt import main
from dist_train.training.parts.ahead import import_ahead
from tests.support.evaluations import evaluated

for task in sys.argv[1:]:
    if process := os.fork():
        assert os.waitpid(process, 0)[1] == 0
        continue
    import_ahead(task)
    before = set(sys.modules)
    labels = torch.arange(12) % 3 if task == "classification" else torch.eye(3).repeat(4, 1)
    evaluated(task, torch.rand(12, 3), labels)
    print(task, sorted(set(sys.modules) - before), flush=True)
    os._exit(0)
"""


def test_an_evaluation_imports_nothing_more() -> None:
    done = subprocess.run([sys.executable, "-c", EVALUATED, *TASKS], capture_output=True, text=True, timeout=120)
    assert (done.stdout.splitlines(), done.returncode) == ([f"{task} []" for task in TASKS], 0), done.stderr
