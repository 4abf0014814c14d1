"""``cpu_offload`` on a simulated GPU (tests/support/fake_cuda.py), as the first of two ranks whose collectives do nothing.

It shows where tensors are, and that what is in host memory has real values: as they are saved, loaded, clipped, updated and gathered.
FSDP's passes need streams and torch's engine, and so a real GPU (tests/whole_runs/test_gpu.py).
"""

from typing import Any

import pytest
import torch
from torch import nn

from tests.support.fake_cuda import GPU, FakeGpu, pretend_gpu
from tests.support.ranks import run_ranks

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: tests/whole_runs/test_gpu.py")


def _strategy() -> Any:
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from dist_train.distributed.group import Dist
    from dist_train.distributed.strategies.fsdp import Fsdp

    torch.cuda.get_device_capability = lambda *_: (8, 0)  # type: ignore[assignment]
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    strategy = Fsdp(Dist(0, 0, 2, GPU, "fsdp"))
    strategy.cpu_offload = True
    return strategy


def _steps(gpu: FakeGpu) -> dict[str, Any]:
    """Load weights of twos, and take a step whose gradients are ones."""
    from dist_train.config.sections.train import TrainConfig
    from dist_train.distributed.strategies.shards import local
    from dist_train.learning.clipping import clipping
    from dist_train.learning.precision import Precision

    strategy = _strategy()
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Linear(4, 3)).to(GPU)
    strategy.shard(model, [model[0]])
    parameters = list(model.parameters())
    pinned = [local(p).untyped_storage().data_ptr() in gpu._pinned for p in parameters]
    whole = strategy.state_dict(model)
    shapes = {name: (value.device.type, list(value.shape)) for name, value in whole.items()}
    strategy.load_state_dict(model, {name: torch.full_like(value, 2) for name, value in whole.items()})
    optimizer = torch.optim.SGD(parameters, lr=1.0, momentum=0.5)
    precision = Precision(TrainConfig(global_batch=1, nonfinite="skip"), GPU)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    norm = precision.step(optimizer, clipping(None, strategy.clip, frozenset()))
    strategy.load_state_dict(optimizer, strategy.state_dict(optimizer))
    with strategy.gathered(model):
        gathered = [(p.device.type, list(p.shape)) for p in model.parameters()]
    return {
        "pinned": pinned,
        "at rest": {local(p).device.type for p in model.parameters()},
        "buffers": {buffer.device.type for buffer in model.buffers()},
        "moments": {local(moments["momentum_buffer"]).device.type for moments in optimizer.state.values()},
        "rows": [len(local(p)) for p in parameters],
        "shapes": shapes,
        "saved": {piece.tensor.device.type for piece in strategy.saved(model).values() if hasattr(piece, "begin")},
        "norm": norm.device.type,
        "values": [local(p).unique().tolist() for p in parameters],
        "gathered": gathered,
    }


def _entered() -> dict[str, Any]:
    with pretend_gpu() as gpu:
        return _steps(gpu)


def test_parts_rest_in_pinned_memory_and_are_whole_on_the_gpu() -> None:
    [found] = run_ranks(1, _entered)
    assert all(found["pinned"])
    assert found["rows"] == [2, 2, 2, 2, 2, 2], "of 4, 4, 4, 4, 3 and 3"
    assert found["at rest"] == found["moments"] == found["saved"] == {"cpu"}
    assert found["buffers"] == {"cuda"}
    assert found["shapes"]["1.weight"] == ("cpu", [3, 4])
    assert found["gathered"] == [("cuda", shape) for shape in ([4, 4], [4], [4], [4], [3, 4], [3])]
    assert found["norm"] == "cpu", "so that the optimizer need not ask the GPU whether to skip the step"
    assert found["values"] == [[1.0]] * 6, "2 - 1"
