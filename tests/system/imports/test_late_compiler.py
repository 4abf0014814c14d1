"""A process that compiles nothing does without torch's compiler, and one that does gets the real one."""

import subprocess
import sys

import pytest

TRAINS = """
import torch, torchvision, timm.optim, torch.distributed as dist
torch.use_deterministic_algorithms(True)
model = torch.nn.Linear(3, 3)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
ddp = torch.nn.parallel.DistributedDataParallel(model)
for step in range(2):
    ddp(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
dist.destroy_process_group()
assert "torch._dynamo.symbolic_convert" not in sys.modules
"""
TRACED = """
seen = []
def backend(graph, inputs):
    seen.append(sum(node.op == "call_function" for node in graph.graph.nodes))
    return graph
@torch.compiler.disable
def apart(x):
    return x * 2
def function(x):
    return apart(x + 1) + 3
compiled = torch.compile(function, backend=backend)
assert compiled(torch.ones(1)).item() == 7
print(seen)
"""


def run(code: str, *, late: bool = True) -> str:
    begin = (
        "from dist_train.system.imports.late_compiler import import_compiler_late; import_compiler_late()"
        if late
        else ""
    )
    done = subprocess.run([sys.executable, "-c", f"import sys\n{begin}\n{code}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_training_of_torch_torchvision_and_timm_does_without_it() -> None:
    run(TRAINS)


@pytest.mark.parametrize("late", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_function_is_compiled_and_cut_where_it_is_disabled(late: bool) -> None:
    assert run(f"import torch{TRACED}", late=late) == "[1, 1]\n"


def test_a_setting_that_timm_makes_is_there_where_something_is_compiled() -> None:
    run(
        "import torch, timm.optim\n"
        "assert 'torch._dynamo.symbolic_convert' not in sys.modules\n"
        "assert torch._dynamo.config.cache_size_limit == 1_000_000 and 'torch._dynamo.symbolic_convert' not in sys.modules\n"
        "torch.use_deterministic_algorithms(True)\n"
        "assert torch._inductor.config.deterministic and 'torch._dynamo.symbolic_convert' not in sys.modules\n"
        "assert torch._dynamo.config.recompile_limit == 1_000_000 and 'torch._dynamo.symbolic_convert' in sys.modules\n"
        "assert torch._inductor.config.deterministic and torch._inductor.config.__file__"
    )


@pytest.mark.slow
def test_a_function_that_was_called_before_is_left_out_of_a_graph_too() -> None:
    assert (
        run(f"import torch{TRACED.replace('def function', 'apart(torch.ones(1))' + chr(10) + 'def function')}")
        == "[1, 1]\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "use",
    [
        "import torch._dynamo.eval_frame as module",
        "from torch._dynamo import eval_frame as module",
        "from torch._dynamo.utils import counters; import torch._dynamo.eval_frame as module",
        "import torch; module = torch._dynamo.eval_frame",
        "import torch; torch._dynamo.config.optimize_ddp = False; module = sys.modules['torch._dynamo.eval_frame']",
        "import torch; kept = torch._dynamo; import torch._dynamo.backends.registry; module = kept.eval_frame",
        "import torch._inductor.config as config; assert config.fallback_random is False; import torch._dynamo.eval_frame as module",
    ],
)
def test_any_other_use_imports_the_real_package_once(use: str) -> None:
    run(
        f"{use}\n"
        "import torch\n"
        "assert module is sys.modules['torch._dynamo.eval_frame'] is torch._dynamo.eval_frame\n"
        "assert torch._dynamo.OptimizedModule is module.OptimizedModule  # it ran once\n"
        "assert module.__spec__.name == 'torch._dynamo.eval_frame' and module.__spec__.loader is not None\n"
        "assert torch._dynamo.__file__ and not [f for f in sys.meta_path if type(f).__name__ == '_Submodules']\n"
    )


def test_who_looks_through_all_modules_does_not_import_it() -> None:
    run(
        "import inspect, importlib.util, torch, torchvision\n"
        "inspect.getmodule(sys._getframe())\n"
        "assert importlib.util.find_spec('torch._dynamo') is not None\n"
        "assert 'torch._dynamo.symbolic_convert' not in sys.modules"
    )


@pytest.mark.slow
def test_a_process_that_has_it_keeps_it() -> None:
    run(
        "import torch._dynamo\n"
        "from dist_train.system.imports.late_compiler import import_compiler_late\n"
        "import_compiler_late()\n"
        "assert torch._dynamo.__file__ and sys.modules['torch._dynamo'] is torch._dynamo",
        late=False,
    )
