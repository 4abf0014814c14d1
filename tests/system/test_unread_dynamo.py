"""What torch, timm and torchvision find of ``torch._dynamo`` before and after it is read."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

BEFORE = """
import sys
from dist_train.system.unread_dynamo import _Unread, call_when_read, read_dynamo_when_used
read_dynamo_when_used()
read_dynamo_when_used()
import torch, torch._dynamo as held
from torch._dynamo.utils import is_compile_supported
import timm.optim
def unread():
    return type(held) is _Unread and "torch._dynamo.eval_frame" not in sys.modules
layer = torch.nn.Linear(3, 3)
optimizer = torch.optim.AdamW(layer.parameters(), 1e-3)
layer(torch.ones(2, 3)).sum().backward()
optimizer.step(); optimizer.zero_grad(); optimizer.state_dict()
disabled = torch.compiler.disable(lambda: 3)
calls = []
call_when_read(lambda: calls.append(1))
call_when_read(lambda: calls.append(2))
assert not calls and disabled() == 3 and not hasattr(held, "__warningregistry__") and unread()
"""

AFTER = """
assert calls == [1, 2], calls
assert not unread() and sys.modules["torch._dynamo"] is held is torch._dynamo, "another module than was held"
import torch._dynamo.utils, torch._dynamo.config
assert held.utils is sys.modules["torch._dynamo.utils"] and held.config is sys.modules["torch._dynamo.config"]
assert held.config.cache_size_limit == 1_000_000, "timm's setting was lost"
assert torch.optim.Optimizer.add_param_group.__wrapped__.__dynamo_disable._torchdynamo_disable
assert disabled._torchdynamo_disable and disabled() == 3
def broken(x):
    return x + disabled()
compiled = torch.compile(broken, backend="eager")
assert compiled(torch.ones(2)).tolist() == [4.0, 4.0]
assert torch.compile(layer, backend="eager", fullgraph=True)(torch.ones(2, 3)).shape == (2, 3)
assert not [finder for finder in sys.meta_path if "Finder" in type(finder).__name__ and "unread" in type(finder).__module__]
"""


def told(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


USES = {
    "compile": "assert torch.compile(layer, backend='eager')(torch.ones(2, 3)).shape == (2, 3)",
    "an attribute": "assert callable(held.reset)",
    "a submodule": "import torch._dynamo.config as first; assert first is held.config",
    "a name from a submodule": "from torch._dynamo.utils import counters; assert counters is held.utils.counters",
    "a submodule by from": "from torch._dynamo import eval_frame; assert eval_frame is held.eval_frame",
    "torchvision's question": "is_compile_supported('cpu')",
    "a class that is disabled": "held.disable(type('Some', (torch.nn.Module,), {})())",
    "a setting that is read": "assert held.config.optimize_ddp is True",
    "all names": "from torch._dynamo import *",
}


@pytest.mark.parametrize("use", [pytest.param(use, id=name, marks=[] if name == "compile" else pytest.mark.slow)
                                 for name, use in USES.items()])  # fmt: skip
def test_every_use_reads_it_into_the_same_object(use: str) -> None:
    told(BEFORE + use + AFTER)


@pytest.mark.slow
def test_a_mode_of_ddp_that_was_set_counts() -> None:
    told(
        BEFORE
        + "held.config.optimize_ddp = False; assert held.utils.get_optimize_ddp_mode() == 'no_optimization'"
        + AFTER
    )


@pytest.mark.slow
def test_one_that_is_imported_stays() -> None:
    told(
        "import sys, torch._dynamo\nfrom dist_train.system.unread_dynamo import read_dynamo_when_used\n"
        "before = list(sys.meta_path); read_dynamo_when_used(); assert sys.meta_path == before"
    )


RUN = """
import runpy, sys
try:
    runpy.run_module("dist_train", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
assert "torch.optim" in sys.modules and "torch._dynamo" in sys.modules
assert "torch._dynamo.eval_frame" not in sys.modules, "the training has read it"
print("left unread")
"""


@pytest.mark.slow
def test_a_training_of_two_ranks_does_not_read_it(tmp_path: Path, tree: dict[str, Any]) -> None:
    """From the start to the end, with EMA, an evaluation and checkpoints, under DDP."""
    script, config = tmp_path / "run.py", tmp_path / "run.yaml"
    script.write_text(RUN)
    config.write_text(yaml.safe_dump(tree | {"run": {**tree["run"], "output_dir": str(tmp_path / "runs")}}))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, str(script), "--config", str(config)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.count("left unread") == 2, done.stdout + done.stderr
