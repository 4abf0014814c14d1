"""Loaders: the number of processes does not change the batches, and errors reach the user unchanged."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from dist_train.config import Config, parse_config
from dist_train.config.planning import make_plan
from dist_train.data.bad_images import BadImages
from dist_train.data.index import DataIndex, scan
from dist_train.data.loader import end_loaders, evaluation_loader, on_device, training_loader
from dist_train.data.pipeline import training_images, validation_images
from dist_train.data.pixels.images import Cache
from dist_train.data.sampler import EvaluationBatches, StreamSampler
from dist_train.distributed.group import Dist
from dist_train.errors import DataError
from dist_train.model.network import Network
from tests.support.commands import AS_A_COMMAND
from tests.support.ranks import run_ranks
from tests.support.runs import changed

CPU = torch.device("cpu")
NETWORK = Network(torch.nn.Identity(), frozenset(), (), (16, 16), (0.5,) * 3, (0.5,) * 3)


def parts(tree: dict[str, Any], **keys: Any) -> tuple[Config, DataIndex, BadImages]:
    cfg = parse_config(changed(tree, **keys))
    index = scan(cfg.data)
    return cfg, index, BadImages(cfg.data, index)


def group(rank: int = 0, world: int = 1) -> Dist:
    return Dist(rank, rank, world, CPU, "none")


def first_batches(
    tree: dict[str, Any], count: int, position: int = 0, cache: Cache | None = None, **keys: Any
) -> list[Any]:
    cfg, index, bad = parts(tree, **keys)
    plan = make_plan(cfg, len(index.train), 1)
    dataset = training_images(cfg, index, NETWORK, bad, cache)
    sampler = StreamSampler(dataset, plan, 0, cfg.run.seed, position)
    batches = on_device(training_loader(cfg.data, dataset, sampler, plan.micro_batch, CPU), CPU)
    found = [next(batches) for _ in range(count)]
    batches.close()  # type: ignore[attr-defined]
    return found


def validation(cfg: Config, index: DataIndex, bad: BadImages) -> DataLoader[Any]:
    images = validation_images(cfg, index, NETWORK, bad)
    return evaluation_loader(cfg.data, images, EvaluationBatches(len(images), cfg.eval.batch_size, 0, 1), CPU)


def equal(left: list[Any], right: list[Any]) -> bool:
    return all(torch.equal(a, b) for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True))


HARD = {"augment": {"crop": "random_resized", "randaugment": {}}}


def test_batches_do_not_depend_on_processes_or_on_where_one_begins(tree: dict[str, Any]) -> None:
    here = first_batches(tree, 4, **HARD)
    assert equal(first_batches(tree, 4, **HARD, data__workers=2, data__prefetch=2), here)
    assert equal(first_batches(tree, 2, position=2, **HARD), here[2:])


def test_loading_leaves_the_generator_of_the_training_process_alone_with_workers(tree: dict[str, Any]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first_batches(tree, 1, **HARD, data__workers=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("persistent", [True, False])
def test_evaluation_can_be_repeated(tree: dict[str, Any], workers: int, persistent: bool) -> None:
    cfg, index, bad = parts(tree, data__workers=workers, data__persistent_workers=persistent)
    loader = validation(cfg, index, bad)
    assert loader.persistent_workers == (persistent and workers > 0)
    assert loader.prefetch_factor == (4 if workers else None)
    first, second = (list(on_device(loader, CPU)) for _ in range(2))
    assert equal(first, second)
    assert [int(index) for batch in first for index in batch[2]] == list(range(23))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_loader_process_is_one_sentence(tree: dict[str, Any], tmp_path: Path, workers: int) -> None:
    import shutil

    root = tmp_path / "images"
    shutil.copytree(tree["data"]["root"], root)
    (root / "val" / "class_a" / "000.png").write_text("not found")
    cfg, index, bad = parts(tree, data__workers=workers, data__root=str(root))
    loader = validation(cfg, index, bad)
    with pytest.raises(DataError, match=r"^cannot read the image .*val/class_a/000.png: cannot identify .*skip`$"):
        list(on_device(loader, CPU))


def test_loader_processes_tell_of_the_bad_images_they_met(tree: dict[str, Any], tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "images"
    shutil.copytree(tree["data"]["root"], root)
    (root / "val" / "class_a" / "000.png").write_text("not found")
    cfg, index, bad = parts(
        tree, data__workers=2, data__root=str(root), data__bad_images="skip", data__max_bad_share=0.1
    )
    list(on_device(validation(cfg, index, bad), CPU))
    assert bad.report(group(), tmp_path / "bad.json") == 1


def test_an_error_whose_traceback_is_kept_keeps_no_loader_process(tree: dict[str, Any]) -> None:
    cfg, index, bad = parts(tree, data__workers=2, data__persistent_workers=True)
    loader = validation(cfg, index, bad)
    before = set(multiprocessing.active_children())

    def train() -> None:
        for _ in on_device(loader, CPU):
            raise KeyError

    with pytest.raises(KeyError) as kept:
        train()
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 2
    end_loaders()
    assert not any(process.is_alive() for process in started)
    assert kept.tb is not None
    end_loaders()


def test_a_process_with_loader_processes_left_exits_at_once(tree: dict[str, Any]) -> None:
    """They ignore SIGTERM, so that multiprocessing's own way of ending them would wait for ever."""
    code = (
        "import json, sys\n"
        "from tests.data import test_loader as t\n"
        "cfg, index, bad = t.parts(json.loads(sys.argv[1]), data__workers=2)\n"
        "from dist_train.data.loader import on_device\n"
        "loader = t.keep = t.validation(cfg, index, bad)\n"
        "t.batches = on_device(loader, t.CPU)\n"
        "next(t.batches)\n"
        "print('left', flush=True)\n"
    )
    command = [sys.executable, "-c", AS_A_COMMAND + code, json.dumps(tree)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


def _killed_where_nothing_is_awaited(tree: dict[str, Any]) -> tuple[int, str, int]:
    """Return what another loader reads meanwhile, the error of the dead process's loader, and how many processes are left."""
    cfg, index, bad = parts(tree, data__workers=1)
    first = on_device(validation(cfg, index, bad), CPU)
    next(first)
    (running,) = multiprocessing.active_children()
    os.kill(running.pid or 0, signal.SIGKILL)
    time.sleep(0.2)  # SIGCHLD arrives
    read = len(list(on_device(validation(cfg, index, bad), CPU)))
    try:
        list(first)
    except RuntimeError as error:
        end_loaders()
        return read, str(error), len(multiprocessing.active_children())
    return read, "nothing was raised", -1


def test_a_dead_loader_process_is_an_error_where_its_batch_is_awaited(tree: dict[str, Any]) -> None:
    ((read, message, left),) = run_ranks(1, _killed_where_nothing_is_awaited, tree)
    cfg, index, bad = parts(tree, data__workers=1)
    assert read == len(validation(cfg, index, bad)) > 3, "the dead one had batches left to read"
    assert re.fullmatch(r"DataLoader worker \(pid\(s\) (\d+)\) exited unexpectedly \(pid \1: SIGKILL\)", message)
    assert left == 0
