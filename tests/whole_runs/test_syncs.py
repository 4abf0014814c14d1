"""Between two log lines the host never waits for the device: nothing reads a tensor's value."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dist_train.config import parse_config
from tests.support.ranks import run_ranks
from tests.support.runs import changed

READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "item", "unique")
"""Operators that a GPU would have to finish all its work for."""

METHODS = ("tolist", "cpu", "numpy", "__array__")
"""Methods that read a CPU tensor without any operator."""


class Watch(TorchDispatchMode):
    """Notes what reads values, while ``on``."""

    def __init__(self) -> None:
        super().__init__()
        self.on, self.seen = True, list[str]()

    def note(self, name: str) -> None:
        if self.on:
            self.seen.append(name)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in READS or name.startswith("unique"):
            self.note(name)
        return func(*args, **(kwargs or {}))

    @contextmanager
    def off(self) -> Iterator[None]:
        before, self.on = self.on, False
        yield
        self.on = before


def _syncs(tree: dict[str, Any]) -> tuple[list[str], int]:
    """A whole run: what read a value outside of log lines, evaluations, saves and loading; and its steps."""
    from dist_train.training import attempt
    from dist_train.training import loop as train
    from dist_train.training.recorder import Recorder

    watch = Watch()
    watch.on = False

    def unwatched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with watch.off():
                return function(*args, **kwargs)

        return call

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(torch.Tensor, name)

        def call(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            watch.note(name)
            with watch.off():
                return real(self, *args, **kwargs)

        return call

    steps = 0

    def fit(setup: Any, recorder: Any, stop: Any) -> Any:
        nonlocal steps
        setup.stepper.batches = _Unwatched(setup.stepper.batches, watch)
        watch.on = True
        with watch:
            status = real_fit(setup, recorder, stop)
        watch.on = False
        steps = setup.state.progress.step
        return status

    real_fit, attempt.fit = attempt.fit, fit  # type: ignore[assignment]
    for holder, name in ((Recorder, "log_steps"), (train, "take_means"), (train, "evaluate_now"), (train, "save_now")):
        setattr(holder, name, unwatched(getattr(holder, name)))
    for name in METHODS:
        setattr(torch.Tensor, name, watched(name))
    assert attempt.main(parse_config(tree)) == 0
    return watch.seen, steps


class _Unwatched:
    def __init__(self, batches: Iterator[Any], watch: Watch) -> None:
        self._batches, self._watch = batches, watch

    def __next__(self) -> Any:
        with self._watch.off():
            return next(self._batches)


HARD = {
    "augment": {"erasing": 1.0, "erasing_fill": "noise", "mixup": 0.8, "cutmix": 1.0},
    "train__ema": 0.9,
    "train__clip_grad": 0.1,
    "train__micro_batch": 6,
    "train__epochs": 1,
    "model": {"name": "test_resnet", "pretrained": False, "drop_path": 0.1, "head": {"dropout": 0.1}},
    "optim": {"name": "adamw", "lr": 1e-3},
    "loss": {"label_smoothing": 0.1},
    "log__every_steps": 100,
}


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16", "amp_fp16", "fp16"])
def test_no_step_reads_a_value(tree: dict[str, Any], precision: str) -> None:
    [(seen, steps)] = run_ranks(1, _syncs, changed(tree, **HARD, train__precision=precision))
    assert steps == 5
    # Where steps may be skipped, buffers, and from step 2 on the EMA, read the flag on the CPU; for a GPU see test_fake_cuda.
    assert seen == ["_local_scalar_dense"] * (2 * steps - 1 if "fp16" in precision else 0)


def test_on_several_ranks_only_the_stop_flag_of_the_host_is_read(tree: dict[str, Any]) -> None:
    for seen, steps in run_ranks(2, _syncs, changed(tree, **HARD)):
        assert steps == 5
        assert set(seen) <= {"_local_scalar_dense", "tolist"}
        assert len(seen) <= 2 * steps, "the flag lives on the CPU, whatever the device is"


def test_without_a_fused_optimizer_the_loss_scaler_of_torch_reads_its_verdict_once_a_step(
    tree: dict[str, Any],
) -> None:
    """It is torch's own: the optimizer cannot be told to skip, so the host has to know."""
    tree = changed(tree, **HARD, train__precision="amp_fp16")
    [(seen, steps)] = run_ranks(1, _syncs, changed(tree, optim={"name": "rmsprop", "lr": 1e-3}))
    assert seen == ["_local_scalar_dense"] * (3 * steps - 1), "the scaler's, and those of the test above"


def test_the_watch_sees_what_it_should() -> None:
    x = torch.ones(3)
    with Watch() as watch:
        float(x.sum())
        bool(x[0])
        x.nonzero()
    assert watch.seen == ["_local_scalar_dense", "_local_scalar_dense", "nonzero"]
