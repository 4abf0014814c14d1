"""DataLoaders: processes that fill batches, and the way of a batch to the device."""

import atexit
import multiprocessing
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader, Dataset

from dist_train.config.sections.data import DataConfig
from dist_train.data.dataset import DRAWS, Batch
from dist_train.data.workers import loader_processes
from dist_train.errors import DataError
from dist_train.system.processes import die_with_parent
from dist_train.system.signals import ignore_stop_signals, say_nothing_of_dead_children


def training_loader(
    cfg: DataConfig, dataset: Dataset[Batch], sampler: Iterable[Any], micro_batch: int, device: torch.device
) -> DataLoader[Batch]:
    """Return a loader of micro-batches in the order of ``sampler``."""
    return DataLoader(dataset, batch_size=micro_batch, sampler=sampler, **_options(cfg, device))


def evaluation_loader(
    cfg: DataConfig, dataset: Dataset[Batch], batches: Iterable[Any], device: torch.device
) -> DataLoader[Batch]:
    """Return a loader of the given batches. Its processes may stay from one evaluation to the next."""
    persistent = cfg.persistent_workers and loader_processes(cfg) > 0
    return DataLoader(dataset, batch_sampler=batches, persistent_workers=persistent, **_options(cfg, device))


def on_device(loader: DataLoader[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy batches to the device, but for draws; from pinned memory, so that the copy does not hold up the host.

    A batch travels to a GPU while the steps before it are computed there.

    Raises:
        DataError: as the loader process raised it, without that process's traceback.
    """
    batches = iter(loader)
    _iterators.add(batches)
    # Register again, to run before the exit handler of multiprocessing.
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
