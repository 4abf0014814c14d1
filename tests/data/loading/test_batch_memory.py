"""Batches arrive as they were made; one that was overwritten is noticed."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

from dist_train.data.loading import batch_memory
from dist_train.data.loading.batch_memory import NOTHING, BatchMemory


class Worker:
    id = 1


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> BatchMemory:
    """Memory as loader process 1 of 2 sees it."""
    monkeypatch.setattr(batch_memory, get_worker_info.__name__, Worker)
    return BatchMemory(workers=2, prefetch=2, batch_bytes=4 * 5 * 5 * 3)


def batch(value: int, length: int = 4) -> tuple[Any, ...]:
    images = torch.full((length, 5, 5, 3), value, dtype=torch.uint8)
    return images, torch.arange(length), torch.ones(length, 2)


def test_batches_come_back_in_any_number_and_size(memory: BatchMemory) -> None:
    for value, length in enumerate((4, 4, 1, 3, 4, 2)):
        made = batch(value, length)
        found = memory.put(made).open()
        assert all(torch.equal(left, right) for left, right in zip(found, made, strict=True))


def test_what_was_read_stays_when_its_slot_is_filled_again(memory: BatchMemory) -> None:
    found = memory.put(batch(1)).open()
    for value in range(2, 9):
        memory.put(batch(value))
    assert found[0].unique().tolist() == [1]


def test_as_many_batches_as_are_under_way_are_kept(memory: BatchMemory) -> None:
    parcels = [memory.put(batch(value)) for value in range(3)]
    assert [parcel.open()[0].unique().item() for parcel in parcels] == [0, 1, 2]
    memory.put(batch(3))
    with pytest.raises(RuntimeError, match="overwritten a batch"):
        parcels[0].open()


def test_a_batch_that_is_too_large_is_refused(memory: BatchMemory) -> None:
    with pytest.raises(RuntimeError, match="does not fit a slot"):
        memory.put(batch(1, length=400))


def test_each_process_says_what_it_reads(memory: BatchMemory) -> None:
    cell = memory.note_process()
    cell[0] = 7
    (absent, reads), (pid, index) = memory.processes()
    assert (absent, reads) == (0, NOTHING)
    assert pid > 0
    assert index == 7
    memory.put(batch(1))
    assert memory.processes()[1] == (pid, NOTHING)


def test_released_memory_can_be_filled_again(memory: BatchMemory) -> None:
    memory.put(batch(1))
    memory.release()
    assert memory.put(batch(2)).open()[0].unique().tolist() == [2]


def test_a_parcel_is_small_and_plain(memory: BatchMemory) -> None:
    parcel = memory.put(batch(1))
    assert all(isinstance(array, np.ndarray) for array in parcel.rest)
    assert len(pickle.dumps(parcel)) < 1000
