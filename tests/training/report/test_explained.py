"""Errors that are not ours become sentences that say what to do."""

import socket
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.config import parse_config
from dist_train.distributed.failure_kind import kind_of
from dist_train.training.report.explained import explained
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), "oom", "says: can't"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "oom", "out of memory with train.micro_batch=6"),
        (RuntimeError("x_cuda does not have a deterministic implementation, but"), "config", "`run.deterministic` (true)"),
    ],
)  # fmt: skip
def test_what_torch_says_becomes_what_to_do(tree: dict[str, Any], error: Exception, kind: str, words: str) -> None:
    told = explained(error, parse_config(changed(tree, train__micro_batch=6)))
    assert kind_of(told) == kind
    assert words in str(told)


def test_a_loader_that_dies_while_it_hands_over_a_batch_is_told_as_that(tree: dict[str, Any], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as nobody_listens:
        nobody_listens.bind(str(tmp_path / "socket"))
    with pytest.raises(ConnectionRefusedError) as refused:
        resource_sharer._resource_sharer.get_connection((str(tmp_path / "socket"), 1))
    told = explained(refused.value, parse_config(changed(tree, data__workers=3)))
    assert "a loader process was killed" in str(told)
    assert "lower `data.workers` (3)" in str(told)


def test_other_errors_stay_what_they_are(tree: dict[str, Any]) -> None:
    for error in (RuntimeError("some other fault"), OSError(5, "Input/output error", "/elsewhere/file")):
        assert explained(error, parse_config(tree)) is error
