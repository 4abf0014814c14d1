"""A block that leaves the process as it was, whatever happens in it. ``tests/test_api.py`` has whole trainings in it."""

import logging
import os
import random
import signal
from typing import Any

import cv2
import torch

from dist_train.config import parse_config
from dist_train.learning.algorithms import set_algorithms
from dist_train.system.machine.memory import keep_freed_memory
from dist_train.system.signals import ignore_stop_signals
from dist_train.system.terminal import log_to_console
from dist_train.training.process_state import restored_process
from tests.support.process_snapshot import changes, snapshot
from tests.support.ranks import free_port, run_ranks
from tests.support.runs import changed


def _everything(tree: dict[str, Any]) -> None:
    torch.distributed.init_process_group("gloo")
    set_algorithms(parse_config(tree), torch.device("cuda", 0))
    keep_freed_memory()
    ignore_stop_signals()
    log_to_console(0)
    random.seed(1)
    torch.manual_seed(1)
    cv2.setNumThreads(1)


def _around(tree: dict[str, Any]) -> tuple[set[str], set[str]]:
    logging.getLogger("dist_train").addHandler(logging.NullHandler())
    signal.signal(signal.SIGTERM, lambda *_: None)
    cv2.setNumThreads(2)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), RANK="0", WORLD_SIZE="1")
    torch.distributed.init_process_group("gloo")  # with the first group gloo opens a pipe, once for the process
    torch.distributed.destroy_process_group()
    before = snapshot()
    inside: set[str] = set()
    try:
        with restored_process():
            _everything(tree)
            inside = set(changes(before, snapshot()))
            raise KeyError
    except KeyError:
        return inside, set(changes(before, snapshot()))


def test_a_block_that_fails_leaves_nothing_behind(tree: dict[str, Any]) -> None:
    ((inside, after),) = run_ranks(1, _around, changed(tree, run__deterministic=True))
    assert inside >= {
        "handlers", "environment", "log", "python's generator", "torch's generator", "algorithms", "opencv's threads",
        "process group", "large blocks are mapped", "files",
    }  # fmt: skip
    assert after == set()
