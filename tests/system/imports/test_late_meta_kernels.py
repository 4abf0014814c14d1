"""A process without a tensor on the device "meta" does without torch's meta kernels, and one that has such a tensor gets them."""

import subprocess
import sys

import pytest

BEGIN = """
import sys
from dist_train.system.imports.fast_imports import quick_imports
with quick_imports():
    import torch
from dist_train.system.imports.late_meta_kernels import meta_kernels_are_imported
"""
END = """
assert meta_kernels_are_imported()
assert torch._meta_registrations.__file__ and torch._refs.__file__ and torch._decomp.__file__
assert not [finder for finder in sys.meta_path if type(finder).__name__ == "_Late"]
assert torch.rand(4, 4, device="meta").svd()[1].shape == (4,)
"""
UNTRIED = """
import dist_train.system.imports.late_meta_kernels
dist_train.system.imports.late_meta_kernels.TRIED = set()
"""


def run(code: str, begin: str = BEGIN) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", f"{begin}\n{code}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_a_training_does_without_them_and_the_first_meta_tensor_imports_them() -> None:
    run(
        "model = torch.nn.Linear(3, 3)\n"
        "optimizer = torch.optim.AdamW(model.parameters())\n"
        "generator = torch.Generator().manual_seed(1)\n"
        "drawn = torch.rand(2, 3, generator=generator)\n"
        "model(drawn).sum().backward()\n"
        "optimizer.step()\n"
        "assert not meta_kernels_are_imported() and 'torch._refs' not in sys.modules\n"
        "with torch.device('meta'):\n"
        "    assert torch.nn.Linear(3, 3).weight.is_meta\n"
        "assert drawn.equal(torch.rand(2, 3, generator=torch.Generator().manual_seed(1)))\n"
        f"{END}"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "use",
    [
        "torch.nn.Linear(3, 3).to('meta')",
        "torch.empty_like(torch.ones(2), device='meta')",
        "assert torch.broadcast_shapes((2, 1), (1, 3)) == (2, 3)",
        "import torch._refs.nn.functional as module; assert module is torch._refs.nn.functional",
        "import torch._prims.rng_prims",
        "from torch._decomp.decompositions import mse_loss",
        "from torch._meta_registrations import meta_index_Tensor",
        "import torch.distributed.tensor",
        "import torch.distributed.fsdp",
        "import timm.optim",
        "from torch._subclasses.fake_tensor import FakeTensorMode\n"
        "with FakeTensorMode():\n    assert torch.linalg.svd(torch.ones(4, 4))[0].shape == (4, 4)",
        "assert torch.compile(lambda x: x * 2, backend='aot_eager')(torch.ones(1)).item() == 2",
        "torch.export.export(torch.nn.Linear(3, 3), (torch.ones(2, 3),))",
        "torch.func.vmap(torch.linalg.det)(torch.rand(2, 3, 3))",
        "torch.func.jvp(torch.nn.functional.gelu, (torch.ones(2),), (torch.ones(2),))",
        "import io; file = io.BytesIO(); torch.save(torch.ones(3), file); file.seek(0)\n"
        "assert torch.load(file, map_location='meta').is_meta",
        "import threading\n"
        "threads = [threading.Thread(target=torch.rand, args=(4,), kwargs={'device': 'meta'}) for _ in range(4)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]",
    ],
)
def test_whoever_needs_them_gets_them(use: str) -> None:
    run(f"{use}\n{END}")


@pytest.mark.slow
def test_a_process_that_has_torch_keeps_its_kernels() -> None:
    run(f"import torch._meta_registrations as kernels\n{BEGIN}\nassert torch._meta_registrations is kernels\n{END}", "")


@pytest.mark.slow
def test_a_version_of_torch_that_was_not_tried_imports_them_at_once() -> None:
    import_torch = "\nwith"
    before, after = BEGIN.split(import_torch)
    run(f"assert meta_kernels_are_imported()\n{END}", f"{before}{UNTRIED}{import_torch}{after}")
