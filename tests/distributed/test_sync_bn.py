"""BatchNorm over all ranks, on real ranks."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed import sync_bn
from dist_train.distributed.group import Dist, joined
from dist_train.distributed.sync_bn import synchronise
from dist_train.errors import ConfigError
from dist_train.learning.precision import HalfForward
from tests.support import bn_kernels
from tests.support.fake_cuda import GPU, backward, pretend_gpu
from tests.support.ranks import run_ranks
from tests.support.runs import rows, state_digest, train

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "1d, no affine": (lambda: nn.BatchNorm1d(4, affine=False), (6, 4)),
    "2d, cumulative average": (lambda: nn.BatchNorm2d(4, momentum=None), (6, 4, 5, 3)),
    "3d, no running statistics": (lambda: nn.BatchNorm3d(4, track_running_stats=False), (6, 4, 2, 3, 2)),
    "timm's, with activation": (lambda: BatchNormAct2d(4, act_layer=nn.SiLU), (6, 4, 5, 3)),
}


def _two_steps(name: str, share: Callable[[Tensor], Tensor], prepare: Callable[[nn.Module], None]) -> dict[str, Tensor]:
    """What two training passes and an evaluation give for a share of the images."""
    build, shape = LAYERS[name]
    torch.manual_seed(0)
    layer = build()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    prepare(layer)
    for step in range(2):
        everything, weights = torch.randn(2, *shape, generator=torch.Generator().manual_seed(step))
        images = share(everything * 3 + 5).requires_grad_()
        out = layer(images)
        (out * share(weights)).sum().backward()
    assert images.grad is not None
    found = {"out": out.detach(), "grad": images.grad, "evaluated": layer.eval()(images).detach()}
    found |= {f"{name}.grad": p.grad for name, p in layer.named_parameters() if p.grad is not None}
    if not list(layer.buffers()):
        del found["evaluated"]  # normalised by the batch at hand, as torch's SyncBatchNorm does: each rank by its own
    return found | dict(layer.named_buffers())


def _on_a_rank(name: str, as_on_gpus: bool) -> dict[str, Any]:
    kernels = bn_kernels.register()
    if as_on_gpus:
        sync_bn._Synchronised._on_cpu = sync_bn._Synchronised._on_gpu  # type: ignore[method-assign]
    with joined(DistributedConfig(timeout_s=30)) as group:
        found = _two_steps(
            name,
            lambda images: images.chunk(group.world_size)[group.rank].clone(),
            lambda layer: synchronise(layer, group),
        )
        del kernels
        return {key: value.numpy() for key, value in found.items()}


@pytest.mark.parametrize("as_on_gpus", [False, True], ids=["cpu", "gpu"])
@pytest.mark.parametrize("name", LAYERS)
def test_ranks_normalise_as_one_process_would(name: str, as_on_gpus: bool) -> None:
    """On the CPU; and as on GPUs, with stand-ins for torch's kernels."""
    ranks = run_ranks(3, _on_a_rank, name, as_on_gpus)
    alone = _two_steps(name, lambda images: images.clone(), lambda _: None)
    assert len(alone) >= 3
    for key, expected in alone.items():
        if key in ("out", "grad", "evaluated"):
            found = np.concatenate([rank[key] for rank in ranks])
        elif key.endswith(".grad"):
            found = sum(rank[key] for rank in ranks)
        else:
            found = ranks[1][key]
        torch.testing.assert_close(
            torch.as_tensor(found), expected, rtol=1e-5, atol=2e-5, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_a_run_on_two_ranks_is_the_run_on_one(tree: dict[str, Any]) -> None:
    """With BatchNorms, an EMA and accumulation; and a resumed run is the same to the bit."""
    options = {"model__name": "test_efficientnet", "train__ema": 0.9, "augment__hflip": 0.0, "eval__every_steps": 3}
    options |= {"train__epochs": 2, "optim__lr": 0.002}
    losses = {}
    for name, world_size, sync in (("one", 1, False), ("two", 2, True), ("each", 2, False)):
        micro = 6 // world_size
        run = train(tree, world_size, run__name=name, model__sync_bn=sync, train__micro_batch=micro, **options)
        losses[name] = [row["loss"] for row in rows(run, "train")]
    assert losses["two"] == pytest.approx(losses["one"], rel=2e-4)
    assert losses["each"] != pytest.approx(losses["one"], rel=2e-3)
    two = run.parent / "two"
    whole = state_digest(two)
    for name in sorted((two / "checkpoints").iterdir())[1:]:  # as if killed after the first epoch
        shutil.rmtree(name)
    train(tree, 2, run__name="two", model__sync_bn=True, train__micro_batch=3, **options)
    assert state_digest(two) == whole


def test_a_norm_of_an_unknown_class_is_refused() -> None:
    class Mine(nn.BatchNorm2d): ...

    group = Dist(0, 0, 2, torch.device("cpu"), "ddp")
    with pytest.raises(ConfigError, match=r"`model\.sync_bn` \(true\) does not support the layer 0, a Mine"):
        synchronise(nn.Sequential(Mine(3)), group)


class _TwoRanks:
    world_size = 2

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor

    def stack(self, tensor: Tensor) -> Tensor:
        return torch.stack((tensor, tensor))


def _on_gpus_that_are_not_there() -> tuple[list[str], list[str]]:
    """What waits in BatchNorm over two ranks: ours, in mixed and in pure half precision; and torch's."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    kernels = bn_kernels.register()
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    with pretend_gpu() as gpu:
        images = torch.zeros(4, 3, 32, 32, device=GPU).contiguous(memory_format=torch.channels_last)
        for half in (False, True):
            model = timm.create_model("test_resnet", num_classes=3).to(GPU, memory_format=torch.channels_last)
            synchronise(model, _TwoRanks())
            wrapped = HalfForward(model) if half else model
            with gpu.noting(), torch.autocast("cuda", dtype=torch.float16):
                backward(wrapped(images).float().sum())
            assert all(parameter.grad is not None for parameter in model.parameters())
        assert "batch_norm_backward_elemt" in gpu.ran
        ours, gpu.waits = gpu.waits, []
        torchs = nn.SyncBatchNorm(3).to(GPU)
        with gpu.noting(), pytest.raises(Exception, match="nonzero"):
            torchs(images)
    del kernels
    return ours, gpu.waits


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: tests/test_gpu.py")
def test_batchnorm_over_ranks_does_not_wait_for_the_gpu_as_torchs_does() -> None:
    [(ours, torchs)] = run_ranks(1, _on_gpus_that_are_not_there)
    assert ours == []
    assert len(torchs) == 1
    assert torchs[0].startswith("index by a mask")
