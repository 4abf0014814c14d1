"""Columns about the machine. No GPU is here, so what torch would ask of one is replaced."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from dist_train.model.network import Network
from dist_train.training.report.machine import Machine

CARD = torch.device("cuda", 0)


def network(module: nn.Module | None = None) -> Network:
    module = module or nn.Sequential(nn.Flatten(), nn.Linear(48, 10))
    return Network(module, frozenset(), (), (4, 4), (), ())


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    answers: dict[str, Any] = {
        "get_device_name": "NVIDIA A100-SXM4-80GB",
        "utilization": 87,
        "power_draw": 250_500,
        "device_memory_used": 3 * 2**30,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, answer=answer: answer)
    return monkeypatch


@contextmanager
def loader_process() -> Iterator[None]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_hold, args=(there,), daemon=True)
    process.start()
    try:
        assert here.poll(60)
        here.recv()
        yield
    finally:
        here.send(None)
        process.join()


def _hold(pipe: Any) -> None:
    held = bytearray(b"x" * (64 << 20))
    pipe.send(len(held))
    pipe.recv()


def test_a_cpu_has_the_memory_of_its_host() -> None:
    machine = Machine(network(), torch.device("cpu"), 1, recomputes=False)
    row = machine.columns(100.0)
    assert row.keys() == {"host_mem_gb"}
    assert 0 < row["host_mem_gb"] < 1e5


def test_rows_within_a_second_share_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(network(), torch.device("cpu"), 1, recomputes=False)
    monkeypatch.setattr("dist_train.training.report.machine.awake_s", lambda: now)
    now = 100.0
    first = machine.columns(None)
    now = 100.9
    assert machine.columns(None) == first
    monkeypatch.setattr("dist_train.training.report.machine.free_memory", lambda: 0)
    now = 101.1
    assert machine.columns(None) != first


def test_loader_processes_have_memory_of_their_own() -> None:
    machine = Machine(network(), torch.device("cpu"), 1, recomputes=False)
    with loader_process():
        assert machine.columns(None)["loader_mem_gb"] > 64 / 1024


def test_a_card_tells_its_load_and_the_run_how_well_it_uses_it(card: pytest.MonkeyPatch) -> None:
    row = Machine(network(), CARD, 4, recomputes=False).columns(1e9)
    assert (row["gpu_util"], row["gpu_watts"], row["gpu_used_gb"]) == (0.87, 250.5, 3.0)
    assert row["mfu"] == pytest.approx(2 * 2 * 48 * 10 * 1e9 / (4 * 312e12))
    assert "mfu" not in Machine(network(), CARD, 4, recomputes=False).columns(None)


def test_what_begins_to_train_later_is_counted_then(card: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 10), nn.Linear(10, 10))
    module[1].requires_grad_(False)
    machine = Machine(network(module), CARD, 1, recomputes=False)
    before = machine.columns(1e9)["mfu"]
    module[1].requires_grad_(True)
    assert machine.columns(1e9)["mfu"] > before


def test_what_the_card_does_not_tell_is_said_once(card: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def missing(_: object) -> int:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    def not_supported(_: object) -> int:
        raise RuntimeError("Not Supported")

    card.setattr(torch.cuda, "utilization", missing)
    card.setattr(torch.cuda, "power_draw", not_supported)
    machine = Machine(network(), CARD, 1, recomputes=False)
    with caplog.at_level("INFO"):
        for _ in range(2):
            assert machine.columns(1.0).keys() == {"host_mem_gb", "gpu_used_gb", "mfu"}
    assert [record.message for record in caplog.records] == [
        "gpu_util is not recorded: nvidia-ml-py does not seem to be installed (pip install nvidia-ml-py)",
        "gpu_watts is not recorded: Not Supported",
    ]


def test_a_model_that_cannot_be_counted_has_no_mfu(card: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Reads(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * images.sum().item()

    with caplog.at_level("INFO"):
        machine = Machine(network(Reads()), CARD, 1, recomputes=False)
    assert "mfu" not in machine.columns(1.0)
    assert "mfu is not recorded: the model cannot be counted" in caplog.text
