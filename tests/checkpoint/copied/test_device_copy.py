"""A state of a GPU is copied while training goes on, and nothing is changed before it is copied.

On a GPU that is not there (tests/support/fake_cuda.py): it fails if a stream changes or frees what is being copied, and a copy takes
place late, so that a write that began too early would hold zeros. Values: tests/whole_runs/test_gpu.py.
"""

import json
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from dist_train.checkpoint.copied.device_copy import DeviceCopy, gpu_of
from dist_train.checkpoint.format import lay_out
from dist_train.checkpoint.sharded.by_ranks import save_shares
from dist_train.checkpoint.sharded.piece import Piece
from dist_train.checkpoint.store import Checkpoints
from dist_train.checkpoint.stored import load
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import joined
from dist_train.distributed.strategies.shards import mapped
from tests.support.fake_cuda import GPU, pretend_gpu
from tests.support.gpu_runs import configured, short_run
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder
from tests.support.states import manifest_of

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: tests/whole_runs/test_gpu.py")


def _late(name: str) -> bool:
    return name == "state.weight"


class _Begun:
    """A copy of a weight, a BatchNorm's statistics and a tensor of this save only."""

    def __init__(self, gpu: Any) -> None:
        self.layer = nn.BatchNorm2d(3).to(GPU)
        self.weight = torch.zeros(8, 8, device=GPU)
        self.temporary: Tensor | None = torch.zeros(5, device=GPU)
        self.host = torch.full((2,), 7.0)
        state = {"weight": self.weight.detach(), "mean": self.layer.running_mean, "sum": self.temporary}
        layout = lay_out(state | {"host": self.host, "count": self.layer.num_batches_tracked})
        self.memory = mmap.mmap(-1, layout.payload_bytes)
        gpu.register(torch.frombuffer(self.memory, dtype=torch.uint8).data_ptr(), layout.payload_bytes, 0)
        assert gpu_of(layout) == GPU
        self.copy = DeviceCopy(self.memory, layout, GPU, _late)
        self.layout = layout

    def held(self) -> dict[str, float]:
        """The first number of each tensor in the memory."""
        places = zip(self.layout.names, self.layout.tensors, strict=True)
        read = torch.frombuffer
        return {n[6:]: float(read(self.memory, dtype=t.dtype, count=1, offset=at)) for n, (at, t) in places}


def _allowed(gpu: Any) -> dict[str, Any]:
    begun, seen = _Begun(gpu), {}
    with gpu.noting():
        begun.layer(torch.zeros(2, 3, 4, 4, device=GPU))  # changes its statistics
        seen["at first"] = begun.held(), begun.copy.done()
        begun.copy.before_update()
        begun.weight.add_(1)
        seen["waits"] = list(gpu.waits)
    begun.copy.wait()
    return seen | {"in the end": begun.held(), "left": len(gpu.copies)}


def _fused(begun: _Begun) -> None:
    parameter = begun.weight.requires_grad_()
    parameter.grad = torch.zeros_like(parameter)
    torch.optim.SGD([parameter], lr=0.1, fused=True).step()


def _freed(begun: _Begun) -> None:
    begun.layout.tensors.clear()
    begun.temporary = None
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.zeros(3, device=GPU)


TOO_EARLY: dict[str, Callable[[_Begun], Any]] = {
    "add_ changes": lambda begun: begun.weight.add_(1),
    "copy_ changes": lambda begun: begun.weight[0].copy_(torch.zeros(8, device=GPU)),
    "_foreach_add_ changes": lambda begun: torch._foreach_add_([begun.weight], 1.0),
    "_fused_sgd_ changes": _fused,
    "freed before": _freed,
}


def _on_it() -> tuple[dict[str, Any], dict[str, str]]:
    errors = {}
    with pretend_gpu() as gpu:
        found = _allowed(gpu)
        for name, wrong in TOO_EARLY.items():
            begun = _Begun(gpu)
            try:
                wrong(begun)
            except AssertionError as error:
                errors[name] = str(error)
            gpu.finish()
    return found, errors


def test_changes_wait_for_the_copy_and_the_host_does_not() -> None:
    [(found, errors)] = run_ranks(1, _on_it)
    nothing, ones = (dict.fromkeys(("weight", "mean", "sum", "count"), value) for value in (0.0, 1.0))
    assert found["at first"] == ({**nothing, "host": 7.0}, False), "what is on the host is copied at once"
    assert found["waits"] == []
    assert found["in the end"] == {**ones, "host": 7.0}
    assert found["left"] == 0
    assert [name for name in TOO_EARLY if name not in errors.get(name, "")] == [], "the test sees what is wrong"


MOMENTS: dict[str, Callable[[Checkpoints], Any]] = {
    "steps": lambda checkpoints: [checkpoints.poll() for _ in range(2)],
    "an evaluation": lambda checkpoints: checkpoints.settle(),
    "another save": lambda checkpoints: checkpoints.save({"weight": torch.zeros(5, device=GPU)}, manifest_of(2)),
    "an error": lambda checkpoints: checkpoints.finish(60.0),
    "a larger state": lambda checkpoints: checkpoints.reserve(10**7, GPU),
    "the end": lambda checkpoints: checkpoints.close(),
}
"""What the loop does next after a save."""


def _saved(path: Path) -> dict[str, tuple[int, int, list[float]]]:
    """Of each moment: the copies under way before and after it, and what the first save wrote."""
    found = {}
    with pretend_gpu() as gpu:
        for moment, comes in MOMENTS.items():
            checkpoints = Checkpoints(path / moment, keep=3)
            checkpoints.start()
            checkpoints.wait()
            checkpoints.reserve(10_000, GPU)
            checkpoints.save({"weight": torch.zeros(1000, device=GPU)}, manifest_of(1), late=lambda name: True)
            before = len(gpu.copies)
            comes(checkpoints)
            after = len(gpu.copies)
            checkpoints.close()
            found[moment] = before, after, load(path / moment / "step_00000001")["weight"].unique().tolist()
    return found


def test_the_write_begins_when_the_copy_is_done_whatever_comes_next(tmp_path: Path) -> None:
    [found] = run_ranks(1, _saved, tmp_path)
    assert found == {moment: (1, int(moment == "another save"), [1.0]) for moment in MOMENTS}


def _shares(path: Path) -> None:
    """Rows of each rank; the second save comes before a rank has asked whether the copy for the first one is done."""
    with joined(DistributedConfig()) as group, pretend_gpu():
        checkpoints = Checkpoints(path, keep=3)
        checkpoints.start()
        checkpoints.wait()
        checkpoints.reserve(10_000, GPU)
        for step in (1, 2):
            piece = Piece(torch.zeros(2, 3, device=GPU), 2 * group.rank, (4, 3))
            save_shares(checkpoints, group, {"weight": piece}, manifest_of(step), None, 30.0, bool)
        checkpoints.close()


def test_no_rank_waits_for_the_file_of_another_that_waits_for_it(tmp_path: Path) -> None:
    """Rank 0 waits for the files of the first save before the second one; the other ranks' writers must have their jobs then."""
    run_ranks(2, _shares, tmp_path / "checkpoints")  # else it is a SaveError after 30 s
    for path in (tmp_path / "checkpoints").iterdir():
        assert torch.equal(load(path)["weight"], torch.ones(4, 3))


def _whole_run(tree: dict[str, Any], fault: str) -> int:
    from dist_train.checkpoint.background_writer import BackgroundWriter
    from dist_train.config import parse_config
    from dist_train.training import attempt, loop
    from dist_train.training.state import TrainState

    if fault == "an update that does not wait":
        mock.patch.object(BackgroundWriter, "before_update", return_value=None).start()
    if fault == "code of the user as late as ours":
        mock.patch.object(loop, "has_own_code", return_value=False).start()
    if fault == "buffers as late as weights":
        mock.patch.object(TrainState, "changed_late", return_value=lambda name: True).start()
    with pretend_gpu():
        return attempt.main(parse_config(tree))


def _with(*faults: str) -> list[Any]:
    """No fault; and faults that the test must see."""
    return ["", *(pytest.param(fault, marks=pytest.mark.slow) for fault in faults)]


@pytest.mark.parametrize("fault", _with("an update that does not wait", "buffers as late as weights"))
def test_a_run_changes_nothing_before_it_is_copied(tree: dict[str, Any], tmp_path: Path, fault: str) -> None:
    """A save after each step; BatchNorm, EMA, loss scaler, fused optimizer."""
    tree = changed(configured(short_run(tree, tmp_path), "amp_fp16, channels last"), checkpoint__keep=10)
    [code] = run_ranks(1, _whole_run, tree, fault)
    result = json.loads((folder(tree) / "result.json").read_text())
    if fault:
        assert "changes a tensor before its copy is done" in result["message"]
        return
    assert code == 0
    saved = {path.name: load(path) for path in (folder(tree) / "checkpoints").iterdir()}
    assert sorted(saved) == ["step_00000001", "step_00000002-evaluated"]
    seen = list[float]()
    mapped(list(saved.values()), lambda tensor: seen.extend(tensor.unique().tolist()))
    assert set(seen) == {1.0}, "nothing was written before it was copied"


class Clamping(nn.Module):
    """It changes a weight in its forward pass, as no model of timm does."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.ones(3)), nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            self.scale.clamp_(min=0.1)
        return self.head(images.mean((2, 3)) * self.scale)  # type: ignore[no-any-return]


@pytest.mark.parametrize("fault", _with("code of the user as late as ours"))
def test_code_of_the_user_may_change_anything_at_any_time(tree: dict[str, Any], tmp_path: Path, fault: str) -> None:
    model = {"name": f"{Clamping.__module__}:Clamping", "pretrained": False}
    tree = changed(short_run(tree, tmp_path), model=model)
    [code] = run_ranks(1, _whole_run, tree, fault)
    message = json.loads((folder(tree) / "result.json").read_text())["message"]
    assert (code, "clamp_ changes a tensor before its copy is done" in (message or "")) == (
        (1, True) if fault else (0, False)
    )
