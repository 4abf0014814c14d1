"""DataLoaders: processes that fill batches, and the way of a batch to the device."""

import atexit
import multiprocessing
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader

from dist_train.config.plan import Plan
from dist_train.config.schema import Config
from dist_train.config.sections.data import DataConfig
from dist_train.data.augment.frame import evaluation_frame
from dist_train.data.augment.on_cpu import evaluation_transform, training_transform, without_draws
from dist_train.data.augment.statistics import mean_colour
from dist_train.data.bad_images import BadImages
from dist_train.data.cache import Cache
from dist_train.data.dataset import DRAWS, Batch, ImageDataset, SmallImages
from dist_train.data.index import DataIndex
from dist_train.data.sampler import EvaluationBatches, StreamSampler
from dist_train.distributed.group import Dist
from dist_train.errors import DataError
from dist_train.model.build import Network
from dist_train.system.cores import cores_per_rank
from dist_train.system.processes import die_with_parent
from dist_train.system.signals import ignore_stop_signals, say_nothing_of_dead_children

MOST_WORKERS = 4
"""Where ``data.workers`` is null. More need much shared memory; the log says when more would help."""


def training_batches(
    cfg: Config,
    plan: Plan,
    group: Dist,
    index: DataIndex,
    network: Network,
    bad: BadImages,
    position: int,
    cache: Cache | None = None,
) -> Iterator[Batch]:
    """This rank's micro-batches on its device, from optimizer step ``position`` to the end of the run."""
    size, seed = network.image_size, cfg.run.seed
    dataset: ImageDataset
    if cache is None:
        transform = training_transform(cfg.augment, size, mean_colour(cfg.data, network))
        dataset = ImageDataset(index.train, "train", index.opener("train"), transform, (size, size), seed, bad.note)
    else:
        dataset = SmallImages(index.train, cache.reader("train"), cfg.augment, cache.size, seed, bad.note)
    sampler = StreamSampler(dataset, plan, group.rank, seed, position)
    loader = DataLoader(dataset, batch_size=plan.micro_batch, sampler=sampler, **_options(cfg.data, group.device))
    return on_device(loader, group.device)


def evaluation_loader(
    cfg: Config, group: Dist, index: DataIndex, network: Network, bad: BadImages, cache: Cache | None = None
) -> DataLoader[Batch]:
    """This rank's share of the validation set, in batches that are the same at any world size."""
    size = network.image_size
    transform = without_draws(evaluation_transform(evaluation_frame(cfg, network)))
    open_image = cache.reader("val") if cache else index.opener("val")
    dataset = ImageDataset(index.val, "val", open_image, transform, (size, size), cfg.run.seed, bad.note)
    batches = EvaluationBatches(len(dataset), cfg.eval.batch_size, group.rank, group.world_size)
    persistent = cfg.data.persistent_workers and loader_processes(cfg.data) > 0
    return DataLoader(dataset, batch_sampler=batches, persistent_workers=persistent, **_options(cfg.data, group.device))


def on_device(loader: DataLoader[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy batches to the device, but for draws; from pinned memory, so that the copy does not hold up the host.

    A batch travels to a GPU while the steps before it are computed there.

    Raises:
        DataError: as the loader process raised it, without that process's traceback.
    """
    batches = iter(loader)
    _iterators.add(batches)
    # Registered anew, so as to run before what multiprocessing does at exit.
    atexit.unregister(end_loader_processes)
    atexit.register(end_loader_processes)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except DataError as error:
            plain = DataError(str(error).strip().rsplit("DataError: ", 1)[-1])
            plain.of_one_rank = True
            raise plain from None
        yield _copied(batch, device) if device.type != "cuda" else _copied_beside(batch, device)


def _copied(batch: Batch, device: torch.device) -> Batch:
    return tuple(
        tensor if place == DRAWS else tensor.to(device, non_blocking=True) for place, tensor in enumerate(batch)
    )


def _copied_beside(batch: Batch, gpu: torch.device) -> Batch:
    """Copied on a stream of its own, which waits for nothing; what is computed from here on waits for the copy."""
    copying, computing = _copy_stream(gpu), torch.cuda.current_stream(gpu)
    with torch.cuda.stream(copying):
        batch = _copied(batch, gpu)
    computing.wait_stream(copying)
    for tensor in batch:
        if tensor.is_cuda:
            # Freed memory goes back to the copying stream, but not before the computing one has done with it.
            tensor.record_stream(computing)
    return batch


@lru_cache(maxsize=1)
def _copy_stream(gpu: torch.device) -> torch.cuda.Stream:
    """One for the whole process: each stream keeps freed memory of its own."""
    return torch.cuda.Stream(gpu)  # type: ignore[no-untyped-call]


def loader_processes(cfg: DataConfig) -> int:
    """Return ``data.workers``, or what fits the cores of this machine. The samples do not depend on it."""
    return cfg.workers if cfg.workers is not None else min(MOST_WORKERS, cores_per_rank())


def _options(cfg: DataConfig, device: torch.device) -> dict[str, Any]:
    workers = loader_processes(cfg)
    return {
        "num_workers": workers,
        "collate_fn": _already_a_batch,
        "pin_memory": cfg.pin_memory and device.type == "cuda",
        "worker_init_fn": _start_worker,
        "prefetch_factor": cfg.prefetch if workers else None,
        # Forked processes share the paths and cost no import; from Python 3.14 on that must be said.
        "multiprocessing_context": "fork" if workers else None,
        # The loader draws a base seed from a generator when it starts; ours keeps the default one untouched.
        "generator": torch.Generator(),
    }


def _already_a_batch(batch: Batch) -> Batch:
    return batch


_iterators: WeakSet[Any] = WeakSet()


def end_loaders() -> None:
    """End the loader processes of this process, persistent ones too, and the threads beside them.

    torch does so when nothing refers to an iterator any more. After an error, its traceback does, and in a notebook for
    as long as nobody looks at another error.
    """
    for iterator in list(_iterators):
        if hasattr(iterator, "_shutdown_workers"):  # not without loader processes
            iterator._shutdown_workers()
    atexit.unregister(end_loader_processes)


def end_loader_processes() -> None:
    """Kill what loader processes are left when the interpreter exits.

    They ignore SIGTERM, which is what multiprocessing would send them before it waits for them, for ever.
    """
    say_nothing_of_dead_children()
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _start_worker(_worker: int) -> None:
    ignore_stop_signals()
    # A forked process holds its rank's sockets open: it must not outlive the rank, or the others would wait for it.
    die_with_parent()
