"""What only a GPU shows: loss scaling, no host syncs, exact resumes, NCCL, compilation, SyncBN between two ranks."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dist_train.config import parse_config
from tests.support.gpu_runs import RUNS, configured, short_run
from tests.support.ranks import collect, free_port, run_ranks, start_ranks
from tests.support.runs import changed, folder, rows, state_digest, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

HARD = {
    "augment": {"erasing": 0.5, "mixup": 0.8, "cutmix": 1.0},
    "model": {"name": "test_vit", "pretrained": False, "drop_path": 0.1, "head": {"dropout": 0.1}},
    "optim": {"name": "adamw", "lr": 1e-3},
    "train__ema": 0.9,
    "train__clip_grad": 1.0,
    "train__micro_batch": 6,
}


def _without_waiting(tree: dict[str, Any]) -> int:
    """A run in whose steps waiting for the GPU is an error."""
    from dist_train.training import loop as trainer
    from dist_train.training.attempt import main

    def step(stepper: Any, state: Any) -> None:
        torch.cuda.set_sync_debug_mode("error" if state.progress.step else "default")  # the first step may compile
        real(stepper, state)
        torch.cuda.set_sync_debug_mode("default")

    real, trainer.train_step = trainer.train_step, step  # type: ignore[assignment]
    return main(parse_config(tree))


@pytest.mark.parametrize("name", RUNS)
def test_no_step_of_a_deterministic_run_waits_for_the_gpu(tree: dict[str, Any], tmp_path: Path, name: str) -> None:
    assert run_ranks(1, _without_waiting, configured(short_run(tree, tmp_path), name)) == [0]


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16", "amp_fp16", "fp16"])
def test_no_step_waits_for_the_gpu(tree: dict[str, Any], precision: str) -> None:
    tree = changed(tree, **HARD, train__precision=precision, run__deterministic=False)
    assert run_ranks(1, _without_waiting, tree) == [0]


@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 0.05}, {"name": "adamw", "lr": 1e-3}])
def test_the_loss_scale_is_found_and_nothing_but_finite_gradients_counts(
    tree: dict[str, Any], optimizer: dict[str, Any]
) -> None:
    run = train(changed(tree, optim=optimizer, train__precision="amp_fp16", train__epochs=4, log__every_steps=20))
    last = rows(run, "train")[-1]
    assert 0 < last["loss"] < 2
    assert last["loss_scale"] == 2.0 ** (16 - last["skipped_steps"])


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16", "amp_fp16"])
def test_a_resumed_run_equals_an_undisturbed_one(tree: dict[str, Any], precision: str) -> None:
    tree = changed(tree, **HARD, train__precision=precision, checkpoint={"every_steps": 1, "keep": 100})
    straight, resumed = train(tree, run__name="straight"), train(tree, run__name="resumed")
    for path in sorted((resumed / "checkpoints").iterdir())[3:]:  # as if killed after step 3
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    train(tree, run__name="resumed")
    assert state_digest(resumed) == state_digest(straight)


@pytest.mark.timeout(600)
def test_a_compiled_model_learns_what_an_eager_one_does(tree: dict[str, Any]) -> None:
    losses = []
    for on in (False, True):
        run = changed(tree, run__name=f"compiled-{on}", model__compile=on, train__tf32=False, log__every_steps=1)
        run = changed(run, distributed__timeout_s=600)
        assert collect(start_ranks(1, _main, run), timeout_s=500) == [0]
        losses.append([row["loss"] for row in rows(folder(run), "train")])
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("precision", ["amp_bf16", "amp_fp16"])
def test_cuda_graphs_learn_what_an_eager_model_does(tree: dict[str, Any], precision: str) -> None:
    """With accumulation, whose gradients lie in memory that the next pass uses, EMA, evaluations and a loss scaler."""
    losses = []
    for compiled in (False, {"mode": "reduce-overhead"}):
        run = changed(tree, **{**HARD, "augment": {}}, run__name=f"graphs-{bool(compiled)}", train__precision=precision)
        run = changed(run, model__drop_path=0.0, model__head={}, model__compile=compiled, log__every_steps=1)
        assert collect(start_ranks(1, _main, changed(run, distributed__timeout_s=600)), timeout_s=500) == [0]
        losses.append([row["loss"] for split in ("train", "val") for row in rows(folder(run), split)])
    assert losses[0] == pytest.approx(losses[1], rel=5e-2)


def _main(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


def _beside_work() -> list[float]:
    """The means of batches that are copied while either stream is far behind the other."""
    from dist_train.data.loader import _copy_stream, on_device

    gpu, numbers = torch.device("cuda", 0), torch.arange(4).pin_memory()
    torch.cuda.set_device(gpu)
    batches = [(torch.full((2**22,), number, dtype=torch.uint8).pin_memory(), numbers, numbers) for number in range(40)]
    means = []
    for number, (images, *_) in enumerate(on_device(batches, gpu)):  # type: ignore[arg-type]
        means.append(images.float().mean())
        with torch.cuda.stream(_copy_stream(gpu) if number // 10 % 2 else torch.cuda.current_stream()):
            torch.cuda._sleep(5_000_000)
    return torch.stack(means).tolist()


def test_batches_are_whole_when_they_are_used() -> None:
    assert run_ranks(1, _beside_work) == [list(range(40))]


def _saved_beside_steps(path: Path) -> bool:
    """Save while the copy is far behind the steps; whether the file holds the state of the save."""
    from dist_train.checkpoint.copied.device_copy import _copy_stream
    from dist_train.checkpoint.store import Checkpoints
    from dist_train.checkpoint.stored import load
    from tests.support.states import manifest_of

    gpu = torch.device("cuda", 0)
    torch.cuda.set_device(gpu)
    layer, weights = nn.BatchNorm2d(64).to(gpu), [torch.rand(2**20, device=gpu) for _ in range(64)]
    checkpoints, same = Checkpoints(path, keep=100), True
    checkpoints.start()
    checkpoints.reserve(300 * 2**20, gpu)
    for step in range(1, 6):
        state = {"model": layer.state_dict(), "weights": [weight.detach() for weight in weights]}
        expected = {name: value.cpu().clone() for name, value in state["model"].items()}
        rows = [weight.cpu() for weight in weights]
        checkpoints.wait()
        with torch.cuda.stream(_copy_stream(gpu)):
            torch.cuda._sleep(50_000_000)
        checkpoints.save(state, manifest_of(step), late=lambda name: name.startswith("state.weights"))
        layer(torch.rand(8, 64, 16, 16, device=gpu))
        checkpoints.before_update()
        torch._foreach_mul_(weights, 0.5)
        checkpoints.wait()
        found = load(path / f"step_{step:08}")
        same &= all(torch.equal(found["model"][name], value) for name, value in expected.items())
        same &= all(torch.equal(mine, row) for mine, row in zip(found["weights"], rows, strict=True))
    checkpoints.close()
    return same


def test_a_checkpoint_holds_the_state_of_its_save_whatever_steps_do(tmp_path: Path) -> None:
    assert run_ranks(1, _saved_beside_steps, tmp_path / "checkpoints") == [True]


@pytest.mark.parametrize("precision", ["amp_bf16", "amp_fp16"])
def test_copies_beside_steps_are_those_that_steps_wait_for(tree: dict[str, Any], precision: str) -> None:
    """With BatchNorm and EMA; ``memory: low`` copies nothing beside steps."""
    model = {"name": "test_resnet", "pretrained": False, "channels_last": True}
    tree = changed(tree, **{**HARD, "model": model}, train__precision=precision)
    files = []
    for memory in ("full", "low"):
        saves = {"every_steps": 1, "keep": 100, "memory": memory}
        run = train(tree, run__name=memory, checkpoint=saves)
        files.append({path.parent.name: path.read_bytes() for path in run.glob("checkpoints/*/*.safetensors")})
    assert len(files[0]) > 4
    assert files[0] == files[1]


def _augmented_here_and_there(keys: dict[str, Any]) -> tuple[float, float]:
    """The share of pixels that are not torchvision's on the GPU, and the mean distance to those of the CPU."""
    from tests.data.augment.test_on_cpu import augment
    from tests.data.augment.test_randaugment_device import augmented, by_torchvision, photographs

    gpu, cfg, images = torch.device("cuda", 0), augment(**keys), photographs(96)
    found = augmented(cfg, images, 40, gpu).cpu()
    expected = [by_torchvision(cfg, image.to(gpu), key, 40).cpu() for key, image in enumerate(images)]
    away = (found.int() - augmented(cfg, images, 40).int()).abs()
    return (found != torch.stack(expected)).float().mean().item(), away.float().mean().item()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_augmented_images_are_torchvisions(interpolation: str) -> None:
    keys = {"crop": "random_resized", "interpolation": "bilinear", "randaugment": {"interpolation": interpolation}}
    [(other, away)] = run_ranks(1, _augmented_here_and_there, keys)
    assert other < 1e-3, "a sum over a batch may be rounded otherwise than over one image"
    assert away < 1


def _used(run: Path, images: Path) -> tuple[int, int]:
    from dist_train import evaluate, predict

    return evaluate.main([str(run)]), predict.main([str(run), str(images / "val")])


def test_a_run_is_evaluated_and_used(tree: dict[str, Any]) -> None:
    run = train(changed(tree, **HARD, train__precision="amp_fp16"))
    assert run_ranks(1, _used, run, Path(tree["data"]["root"])) == [(0, 0)]


def _as_torchrun(tree: dict[str, Any], rank: int, world_size: int, port: int) -> tuple[int, list[str]]:
    """A rank of a run; its exit code, and the backends of the groups that were made."""
    import torch.distributed as dist

    def init(backend: str, **options: Any) -> None:
        backends.append(backend)
        real(backend=backend, **options)

    def left(*groups: Any) -> None:
        nccl = dist.group.WORLD._get_backend(torch.device("cuda"))  # type: ignore[union-attr]
        assert nccl.options.is_high_priority_stream  # type: ignore[attr-defined]
        leave(*groups)

    backends: list[str] = []
    leave, dist.destroy_process_group = dist.destroy_process_group, left
    real, dist.init_process_group = dist.init_process_group, init
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1")
    return _main(tree), backends


def test_ddp_over_nccl(tree: dict[str, Any]) -> None:
    """With one rank: NCCL refuses two ranks on one GPU."""
    alone = train(changed(tree, **HARD))
    tree = changed(tree, **HARD, run__name="nccl", distributed__strategy="ddp")
    assert run_ranks(1, _as_torchrun, tree, 0, 1, free_port()) == [(0, ["nccl"])]
    assert rows(folder(tree), "val")[-1]["loss"] == pytest.approx(rows(alone, "val")[-1]["loss"], rel=1e-3)


def _divided_among_one(tree: dict[str, Any], port: int) -> tuple[int, list[str]]:
    """A single rank that divides its weights all the same, by FSDP over NCCL."""
    from dist_train.distributed import group as distributed

    distributed.choose_strategy = lambda wanted, *_: wanted
    return _as_torchrun(tree, 0, 1, port)


@pytest.mark.parametrize("name", ["fsdp", "zero2"])
@pytest.mark.parametrize("cpu_offload", [False, True])
def test_divided_weights_on_a_gpu(tree: dict[str, Any], name: str, cpu_offload: bool) -> None:
    """Of the same run, and resumed; ``train.nonfinite: skip`` decides on the device where the gradients are."""
    tree = changed(tree, **HARD, train__nonfinite="skip", train__epochs=2, checkpoint={"every_steps": 1, "keep": 10})
    alone = train(tree, run__name="alone")
    strategy = {"name": name, "cpu_offload": cpu_offload}
    tree = changed(tree, run__name="divided", distributed__strategy=strategy)
    assert run_ranks(1, _divided_among_one, tree, free_port()) == [(0, ["nccl"])]
    run = folder(tree)
    assert rows(run, "val")[-1]["loss"] == pytest.approx(rows(alone, "val")[-1]["loss"], rel=1e-3)
    expected = state_digest(run)
    for checkpoint in sorted((run / "checkpoints").iterdir())[3:]:
        shutil.rmtree(checkpoint)
    assert run_ranks(1, _divided_among_one, tree, free_port()) == [(0, ["nccl"])]
    assert state_digest(run) == expected


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="needs a machine with one GPU")
def test_a_rank_without_a_gpu_is_an_error(tree: dict[str, Any]) -> None:
    """Found before it waits for the others."""
    assert run_ranks(1, _as_torchrun, tree, 1, 2, free_port()) == [(2, [])]
    assert "local rank 1 has no GPU" in json.loads((folder(tree) / "result.json").read_text())["message"]


def _sharing_one_gpu(tree: dict[str, Any]) -> int:
    """A rank of a run whose ranks have one GPU between them, and gloo in place of NCCL, which refuses that."""
    import torch.distributed as dist

    from dist_train.distributed import group as distributed

    def init(backend: str, device_id: torch.device | None, pg_options: Any, **options: Any) -> None:
        real(backend="gloo", **options)

    def first_gpu(_local_rank: int) -> torch.device:
        torch.cuda.set_device(0)
        return torch.device("cuda", 0)

    real, dist.init_process_group = dist.init_process_group, init  # type: ignore[assignment]
    distributed._device = first_gpu
    return _main(tree)


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-3), ("amp_bf16", 5e-2)])
def test_two_ranks_on_one_gpu_are_the_run_on_one(tree: dict[str, Any], precision: str, close: float) -> None:
    """DDP, accumulation, BatchNorm over ranks, evaluation and checkpoints."""
    model = {"name": "test_resnet", "pretrained": False, "sync_bn": True, "channels_last": True}
    tree = changed(tree, model=model, optim__lr=0.002, log__every_steps=1)
    tree = changed(tree, train__precision=precision, train__tf32=False, train__ema=0.9)
    one = train(tree, run__name="one", train__micro_batch=6)
    tree = changed(tree, run__name="two", train__micro_batch=3)
    assert run_ranks(2, _sharing_one_gpu, tree) == [0, 0]
    for split in ("train", "val"):
        alone, together = ([row["loss"] for row in rows(run, split)] for run in (one, folder(tree)))
        assert together == pytest.approx(alone, rel=close)


def _in_little_memory(tree: dict[str, Any]) -> int:
    torch.cuda.set_per_process_memory_fraction(1e-4)
    return _main(tree)


def test_too_little_memory_names_the_key(tree: dict[str, Any]) -> None:
    assert run_ranks(1, _in_little_memory, tree) == [1]
    assert (
        "out of memory with train.micro_batch=12" in json.loads((folder(tree) / "result.json").read_text())["message"]
    )


def _images() -> torch.Tensor:
    return torch.randn(8, 4, 5, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1


def _trained(layer: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a training pass leaves; the loss weighs each output differently."""
    images = images.requires_grad_()
    out = layer(images)
    (out.float() * torch.linspace(-1, 1, 60, device=out.device).view(4, 5, 3)).sum().backward()
    assert images.grad is not None
    left = {"out": out, "grad": images.grad, "weight.grad": layer.weight.grad, "running_var": layer.running_var}
    return {name: tensor.detach().float().cpu() for name, tensor in left.items()}  # type: ignore[union-attr]


def _sync_bn(layout: torch.memory_format, dtype: torch.dtype) -> dict[str, Any]:
    """BatchNorm over two gloo ranks that share one GPU."""
    import torch.distributed as dist

    from dist_train.distributed.group import Dist
    from dist_train.distributed.sync_bn import synchronise

    dist.init_process_group("gloo")
    torch.cuda.set_device(0)
    layer = nn.BatchNorm2d(4).cuda()
    synchronise(layer, Dist(dist.get_rank(), 0, 2, torch.device("cuda", 0), "none"))
    share = _images().chunk(2)[dist.get_rank()].to("cuda", dtype, memory_format=layout)
    found = {name: tensor.numpy() for name, tensor in _trained(layer, share.clone()).items()}
    dist.destroy_process_group()
    return found


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_sync_bn_sees_the_batch_of_both_ranks(layout: torch.memory_format, dtype: torch.dtype) -> None:
    ranks = run_ranks(2, _sync_bn, layout, dtype)
    close = 2e-5 if dtype == torch.float32 else 2e-2
    for name, expected in _trained(nn.BatchNorm2d(4), _images()).items():
        parts = [rank[name] for rank in ranks]
        found = np.concatenate(parts) if name in ("out", "grad") else sum(parts) if name == "weight.grad" else parts[1]
        assert found == pytest.approx(expected.numpy(), rel=close, abs=close * float(expected.abs().max())), name
