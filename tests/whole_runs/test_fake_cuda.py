"""The code for GPUs, run on a GPU that is not there (tests/fake_cuda.py): devices agree, nothing waits, all is deterministic.

It says nothing of values, of speed and of memory, and knows no DDP, NCCL and compiler: tests/test_gpu.py does, where there
is a GPU.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.fake_cuda import GPU, FakeGpu, backward, pretend_gpu
from tests.support.gpu_runs import RESNET, RUNS, configured, short_run
from tests.support.ranks import free_port, run_ranks
from tests.support.runs import changed, folder

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: tests/test_gpu.py")


@pytest.fixture
def short(tree: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    return short_run(tree, tmp_path)


def _entered(gpu: FakeGpu, tree: dict[str, Any]) -> int:
    """A whole run; waiting is noted but for log lines, evaluations and saves."""
    from dist_train.checkpoint.store import Checkpoints
    from dist_train.config import parse_config
    from dist_train.training import attempt
    from dist_train.training import loop as train
    from dist_train.training.recorder import Recorder

    def noting(function: Callable[..., Any], on: bool) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with gpu.noting(on):
                return function(*args)

        return call

    attempt.fit = noting(attempt.fit, True)
    for holder, name in (
        (Recorder, "log_steps"),
        (train, "take_means"),
        (train, "evaluate_now"),
        (train, "save_now"),
        (train, "train_more"),
        (Checkpoints, "reserve"),  # once, and once more after each ``train_more``
    ):
        setattr(holder, name, noting(getattr(holder, name), False))
    with gpu:
        return attempt.main(parse_config(tree))


def _run(tree: dict[str, Any]) -> tuple[int, list[str], set[str], int]:
    gpu = pretend_gpu()
    return _entered(gpu, tree), gpu.waits, gpu.ran, len(gpu.seeds)


@pytest.mark.parametrize("name", RUNS)
def test_no_step_of_a_run_waits_for_the_gpu(short: dict[str, Any], name: str) -> None:
    tree = configured(short, name)
    [(code, waits, ran, seeds)] = run_ranks(1, _run, tree)
    assert (code, waits) == (0, [])
    assert {"_foreach_norm", "_to_copy"} <= ran, "steps were done on the GPU"
    micro_batches = 2 * tree["train"]["epochs"] * (30 // tree["train"].get("micro_batch", 30))
    assert seeds == micro_batches + 1, "one seed for the weights, one for each micro-batch"


def test_a_run_is_resumed_evaluated_and_used(short: dict[str, Any]) -> None:
    """With a loss scale and the moments of a fused optimizer, which go back to the GPU."""
    tree = changed(short, model=RESNET, optim={"name": "adamw", "lr": 1e-3}, train__precision="amp_fp16")
    assert run_ranks(1, _run, tree)[0][0] == 0
    shutil.rmtree(sorted((folder(tree) / "checkpoints").iterdir())[-1])  # as if killed in the last step
    [(code, waits, _, seeds)] = run_ranks(1, _run, tree)
    assert (code, waits, seeds) == (0, [], 2)
    assert run_ranks(1, _evaluated, folder(tree), Path(tree["data"]["root"])) == [(0, 0, True)]


def _evaluated(run: Path, images: Path) -> tuple[int, int, bool]:
    from dist_train import evaluate, predict

    with pretend_gpu() as gpu:
        codes = evaluate.main([str(run)]), predict.main([str(run), str(images / "val")])
    return *codes, "convolution" in gpu.ran


def test_memory_that_is_not_pinned_is_noticed_in_a_run(short: dict[str, Any]) -> None:
    [(code, waits, _, _)] = run_ranks(1, _run, changed(short, data__pin_memory=False))
    assert code == 0
    assert len(waits) == 2 * 3, "images, labels, indices of two batches"
    assert all(wait.startswith("copy from memory that is not pinned, loader.py") for wait in waits)


class Pooling(nn.Module):
    """Its pooling has no deterministic gradient on a GPU, as that of torchvision's AlexNet and VGG."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 4, num_classes)
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(images * self.scale, 2).flatten(1))  # type: ignore[no-any-return]


def test_what_cannot_be_deterministic_is_named(short: dict[str, Any]) -> None:
    tree = changed(short, model={"name": "tests.whole_runs.test_fake_cuda:Pooling", "pretrained": False})
    assert run_ranks(1, _run, tree)[0][0] == 2
    message = json.loads((folder(tree) / "result.json").read_text())["message"]
    assert "`run.deterministic` (true) does not work" in message
    assert "_adaptive_avg_pool2d_backward" in message
    assert run_ranks(1, _run, changed(tree, run__name="free", run__deterministic=False))[0][0] == 0


def _every_operation() -> list[str]:
    """Every operation of RandAugment both ways, each for two samples; crops and flips; in deterministic mode."""
    from dist_train.data.augment.draws import CODES, Draws
    from dist_train.data.augment.packed_draws import packed
    from dist_train.data.augment.randaugment_device import DeviceOperations
    from tests.data.augment.test_on_cpu import augment

    torch.use_deterministic_algorithms(True)
    drawn = [Draws((1, 2, 9, 9), number % 2 == 0, (code, code)) for number, code in enumerate((*CODES, *CODES))]
    with pretend_gpu() as gpu:
        for crop in ("center", "random_resized"):
            for interpolation in ("nearest", "bilinear"):
                cfg = augment(crop=crop, interpolation=interpolation, randaugment={"interpolation": interpolation})
                operations = DeviceOperations(cfg, (32, 32))
                operations.prepare(GPU)
                draws, rows = packed(drawn)
                images = torch.zeros((len(drawn), 20, 24, 3), dtype=torch.uint8, device=GPU)
                on_gpu = rows.to(GPU)
                with gpu.noting():
                    found = operations(images, draws, on_gpu)
                assert (found.shape, found.dtype, found.device) == ((len(drawn), 32, 32, 3), torch.uint8, GPU)
    assert {"grid_sampler_2d", "scatter_add_", "index_copy_"} <= gpu.ran
    return gpu.waits


def test_no_operation_on_the_gpu_waits_for_it() -> None:
    assert run_ranks(1, _every_operation) == [[]]


def _losses() -> dict[str, list[str]]:
    from dist_train.config.sections.loss import LossConfig
    from dist_train.distributed.group import Dist
    from dist_train.learning.losses import build_loss

    torch.use_deterministic_algorithms(True)
    found = {}
    with pretend_gpu() as gpu:
        group, network = Dist.alone(GPU), nn.Linear(4, 3).to(GPU)
        for name in ("cross_entropy", "focal", "bce", "binary_focal", "soft_f1", "mse", "l1", "huber"):
            weighted = name not in ("soft_f1", "mse", "l1", "huber")
            options = {"label_smoothing": 0.1, "class_weights": {"a": 2.0}} if weighted else {}
            loss = build_loss(
                LossConfig(name=name, l1=0.1, **options), ["a", "b", "c"], np.ones(3, np.int64), group, network
            )  # type: ignore[arg-type]
            classes, soft = torch.zeros(6, dtype=torch.int64, device=GPU), torch.zeros(6, 3, device=GPU)
            images = torch.zeros(6, 4, device=GPU)
            for targets in (classes, soft) if weighted else (soft,):
                with gpu.noting(), torch.autocast("cuda", dtype=torch.bfloat16):
                    backward(loss((network(images), network(images)), targets))
            assert network.weight.grad is not None
            assert network.weight.grad.device == GPU
            found[name], gpu.waits = gpu.waits, []
    return found


def test_no_loss_waits_for_the_gpu() -> None:
    [found] = run_ranks(1, _losses)
    assert len(found) == 8
    assert not any(found.values()), found


def _scores() -> list[str]:
    from dist_train.data.split import Split
    from dist_train.evaluation.metrics import SampleScores

    torch.use_deterministic_algorithms(True)
    with pretend_gpu() as gpu:
        for task in ("classification", "multilabel", "regression"):
            several = np.zeros((6, 3), np.float32)
            split = Split(np.array([b""] * 6), np.zeros(6, np.int64) if task == "classification" else several)
            scores = SampleScores(split, task, 3, GPU, ["loss"], keep=True)  # type: ignore[arg-type]
            labels = gpu.pin(torch.from_numpy(split.labels[:])).to(GPU, non_blocking=True)
            with gpu.noting():
                scores.add(torch.zeros(6, 3, dtype=torch.half, device=GPU), labels, torch.arange(6, device=GPU))
    return gpu.waits


def test_scoring_a_batch_does_not_wait_for_the_gpu() -> None:
    assert run_ranks(1, _scores) == [[]]


def _joined(port: int) -> tuple[Any, ...]:
    """The group of one rank under torchrun, with a stand-in for NCCL; and two ranks' places on a node with one GPU."""
    import torch.distributed as dist
    import torch.testing._internal.distributed.fake_pg

    from dist_train.config.sections.distributed import DistributedConfig
    from dist_train.distributed.group import _device, joined
    from dist_train.errors import ConfigError

    def init(backend: str, **options: Any) -> None:
        assert (backend, options["device_id"]) == ("nccl", GPU)
        chosen = options.pop("pg_options")
        assert (chosen.is_high_priority_stream, chosen._timeout) == (True, options["timeout"])
        real(backend="cpu:gloo,cuda:fake", **options)

    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    real, dist.init_process_group = dist.init_process_group, init
    with pretend_gpu(), joined(DistributedConfig(strategy="ddp", timeout_s=30)) as group:
        on_gpu = torch.zeros(3, device=GPU)
        dist.all_reduce(on_gpu)
        told: list[Any] = [None]
        dist.all_gather_object(told, "object", group=group.control)
        for rank in (1, 2):
            with pytest.raises(ConfigError, match=f"local rank {rank} has no GPU: this node has 1") as raised:
                _device(rank)
            assert raised.value.of_one_rank == (rank == 1), "rank 0 has a GPU: another one must tell, once"
        return group.device, group.strategy, dist.get_backend(group.control), on_gpu.device, told


def test_a_rank_joins_with_its_gpu_and_a_group_for_the_host() -> None:
    [found] = run_ranks(1, _joined, free_port())
    assert found == (GPU, "ddp", "gloo", GPU, ["object"])


def _near(tree: dict[str, Any], path: Path) -> list[int]:
    """Return the cores of this one of two ranks, after it was set up on a machine with two NUMA nodes."""
    import torch.distributed as dist

    from dist_train.config import parse_config
    from dist_train.distributed.group import Dist
    from dist_train.system.machine import numa
    from dist_train.training.setup import _stay_near_gpu
    from tests.system.machine.test_numa import halves, machine

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    numa.SYS = machine(path / str(rank), halves(), [0, 1])
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    with pretend_gpu():
        place, before = Dist(rank, rank, 2, GPU, "ddp"), os.sched_getaffinity(0)
        _stay_near_gpu(parse_config(changed(tree, distributed__numa_binding=False)), place)
        assert os.sched_getaffinity(0) == before
        _stay_near_gpu(parse_config(tree), place)
    return sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) % 2 == 1, reason="needs two equal halves of cores")
def test_a_rank_stays_near_its_gpu(tree: dict[str, Any], tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    middle = len(cores) // 2
    assert run_ranks(2, _near, tree, tmp_path) == [cores[:middle], cores[middle:]]


FAULTS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "truth": lambda x: bool(x.sum() > 0),
    "list": lambda x: x[0, 0, 0, :1].tolist(),
    "to the host": lambda x: x.cpu(),
    "a copy to the host": lambda x: torch.zeros(x.shape).copy_(x),
    "a tensor from numbers": lambda x: torch.tensor([1.0, 2.0], device=GPU),
    "not pinned": lambda x: torch.zeros(3).to(GPU, non_blocking=True),
    "chosen by a mask": lambda x: x[x > 0],
    "set by a mask": lambda x: x.index_put_((x > 0,), torch.zeros((), device=GPU)),
    "unique": lambda x: x.unique(),
    "repeated": lambda x: x.flatten().repeat_interleave(torch.ones(x.numel(), dtype=torch.int64, device=GPU)),
}
ERRORS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a mean on the host": (lambda x: x - torch.zeros(3, 1, 1), "found "),
    "a gradient without deterministic kernel": (
        lambda x: backward(F.interpolate(x, 9, mode="bicubic").sum()),
        "determin",
    ),
    "a moment in another layout": (lambda x: _fused(x, torch.zeros_like(x).contiguous()), "another layout"),
    "a moment on the host": (lambda x: _fused(x, torch.zeros_like(x, device="cpu")), "device of"),
    "a copy that is not waited for": (lambda x: _beside(record=True) + x, "waited for"),
    "a copy whose memory may be given away": (lambda x: _beside(wait=True) + x, "does not know of"),
}


def _beside(wait: bool = False, record: bool = False) -> Tensor:
    """A tensor made on another stream."""
    beside, here = torch.cuda.Stream(), torch.cuda.current_stream()
    with torch.cuda.stream(beside):
        made = torch.ones((), device=GPU)
    if wait:
        here.wait_stream(beside)
    if record:
        made.record_stream(here)
    return made


def _fused(x: Tensor, moment: Tensor) -> None:
    optimizer = torch.optim.SGD([x], lr=0.1, momentum=0.9, fused=True)
    x.grad, optimizer.state[x]["momentum_buffer"] = torch.zeros_like(x), moment
    optimizer.step()


def _faults() -> tuple[dict[str, list[str]], dict[str, str]]:
    torch.use_deterministic_algorithms(True)
    waits, errors = {}, {}
    with pretend_gpu() as gpu, gpu.noting():
        like = torch.zeros(2, 3, 8, 8, device=GPU).contiguous(memory_format=torch.channels_last)
        for name, fault in FAULTS.items():
            with contextlib.suppress(RuntimeError):  # shapes that depend on values are beyond fake tensors
                fault(like)
            waits[name], gpu.waits = gpu.waits, []
        for name, (wrong, _) in ERRORS.items():
            try:
                wrong(like.clone().requires_grad_())
            except (AssertionError, RuntimeError) as error:
                errors[name] = str(error)
    return waits, errors


def test_what_should_not_be_is_noticed() -> None:
    [(waits, errors)] = run_ranks(1, _faults)
    assert {name: seen for name, seen in waits.items() if len(seen) != 1} == {}
    assert [name for name, (_, message) in ERRORS.items() if message not in errors.get(name, "")] == []
