"""DataLoaders: processes that fill batches, and the way of a batch to the device."""

import atexit
import itertools
import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from functools import lru_cache
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from dist_train.config.sections.data import DataConfig
from dist_train.data.dataset import DRAWS, Batch, ImageBatches
from dist_train.data.loading.batch_memory import Parcel
from dist_train.data.loading.room import no_room_for_processes
from dist_train.data.loading.sent_images import SentImages, sent_images_of
from dist_train.data.sampler import EvaluationBatches
from dist_train.data.workers import loader_processes
from dist_train.distributed.stop import StopNow
from dist_train.errors import DataError
from dist_train.system.machine.memory import return_freed_memory
from dist_train.system.processes import die_with_parent
from dist_train.system.signals import ignore_stop_signals, no_error_for_dead_children


class WaitedForData(StopNow):
    """A stop signal came while this rank waited for its next batch.

    Attributes:
        received: the batches before it.
    """

    def __init__(self, reason: str, received: int) -> None:
        super().__init__(reason)
        self.received = received


SLICES, SLICE_S, STAYING_SLICE_S = 5, 1.0, 10.0
"""A wait of ``data.timeout_s`` is cut into at least so many parts, of at most so many seconds. A process that was suspended
meanwhile misses one of them only; after each, torch looks whether its processes are alive. In one part, torch also waits until
processes that have stayed from the last evaluation answer."""


def training_loader(
    cfg: DataConfig, images: ImageBatches, sampler: Iterable[Any], micro_batch: int, device: torch.device
) -> DataLoader[Batch]:
    """Return a loader of micro-batches in the order of ``sampler``."""
    dataset, options = _source(cfg, images, micro_batch, device, SLICE_S)
    return DataLoader(dataset, batch_size=micro_batch, sampler=sampler, **options)


def evaluation_loader(
    cfg: DataConfig, images: ImageBatches, batches: EvaluationBatches, device: torch.device
) -> DataLoader[Batch]:
    """Return a loader of the given batches. Its processes may stay from one evaluation to the next."""
    persistent = cfg.persistent_workers and loader_processes(cfg) > 0
    slice_s = STAYING_SLICE_S if persistent else SLICE_S
    dataset, options = _source(cfg, images, batches.batch_size, device, slice_s)
    return DataLoader(dataset, batch_sampler=batches, persistent_workers=persistent, **options)


def on_device(loader: DataLoader[Batch], device: torch.device, on_host: int = DRAWS) -> Iterator[Batch]:
    """Copy batches to the device; from pinned memory, so that the copy does not hold up the host.

    A batch travels to a GPU while the steps before it are computed there.

    Args:
        on_host: the place in a batch of the tensor that stays on the host.

    Raises:
        DataError: as the loader process raised it, without that process's traceback; or no batch came in time.
        DistTrainError: the loader processes cannot start.
        WaitedForData: a stop signal came, and no batch.
    """
    sent = sent_images_of(loader)
    batches = _started(loader, sent)
    for received in itertools.count():
        try:
            batch = _next(batches, loader.timeout, sent)
        except StopIteration:
            if sent is not None:
                sent.end()
            return
        except DataError as error:
            plain = DataError(str(error).strip().rsplit("DataError: ", 1)[-1])
            plain.of_one_rank = True
            raise plain from None
        except StopNow as stopped:
            end_loaders()
            raise WaitedForData(str(stopped), received) from None
        yield (_copied_beside if device.type == "cuda" else _copied)(batch, device, on_host)


def _started(loader: DataLoader[Batch], sent: SentImages | None) -> Iterator[Any]:
    """Return an iterator over the batches; start its processes."""
    try:
        if sent is not None:
            sent.begin(loader.persistent_workers)
        others = multiprocessing.active_children()
        if loader.num_workers:
            return_freed_memory()
        with no_error_for_dead_children():
            batches = iter(loader)
        _processes.setdefault(batches, [one for one in multiprocessing.active_children() if one not in others])
    except OSError as error:
        raise no_room_for_processes(loader.num_workers, error) from error
    # Register again, to run before the exit handler of multiprocessing.
    atexit.unregister(end_loader_processes)
    atexit.register(end_loader_processes)
    return batches


def _next(batches: Iterator[Any], slice_s: float, sent: SentImages | None) -> Batch:
    for _ in range(1 if sent is None else round(sent.timeout_s / slice_s)):
        try:
            batch = next(batches)
        except RuntimeError as error:
            if str(error).startswith("DataLoader worker"):
                raise RuntimeError(f"{error} ({_ends(batches)})") from None
            # After this error torch's iterator goes on waiting where it was, if it is asked again.
            if not str(error).startswith("DataLoader timed out"):
                raise
        else:
            return batch.open() if isinstance(batch, Parcel) else batch
    assert sent is not None  # without processes there is no time limit
    raise DataError(
        f"no batch came from the loader processes within `data.timeout_s` ({sent.timeout_s}): {sent.state()}. Raise it "
        "if the disk is slow; the same command continues from the last checkpoint"
    )


def _source(
    cfg: DataConfig, images: ImageBatches, batch_size: int, device: torch.device, slice_s: float
) -> tuple[Dataset[Any], dict[str, Any]]:
    """Return the data set and the options of a loader."""
    workers = loader_processes(cfg)
    options = {"collate_fn": _already_a_batch, "pin_memory": cfg.pin_memory and device.type == "cuda"}
    # The loader draws a base seed from a generator when it starts; ours keeps the default one untouched.
    options["generator"] = torch.Generator()
    if not workers:
        return images, options
    return SentImages(images, workers, cfg.prefetch, batch_size, cfg.timeout_s), options | {
        "num_workers": workers,
        "prefetch_factor": cfg.prefetch,
        "timeout": min(slice_s, cfg.timeout_s / SLICES),
        "worker_init_fn": _start_worker,
        # Forked processes share the paths and cost no import; from Python 3.14 on that must be said.
        "multiprocessing_context": "fork",
    }


def _copied(batch: Batch, device: torch.device, on_host: int) -> Batch:
    return tuple(
        tensor if place == on_host else tensor.to(device, non_blocking=True) for place, tensor in enumerate(batch)
    )


def _copied_beside(batch: Batch, gpu: torch.device, on_host: int) -> Batch:
    """Copy a batch on a stream of its own, which waits for nothing; what is computed from here on waits for the copy."""
    copying, computing = _copy_stream(gpu), torch.cuda.current_stream(gpu)
    with torch.cuda.stream(copying):
        batch = _copied(batch, gpu, on_host)
    computing.wait_stream(copying)
    for tensor in batch:
        if tensor.is_cuda:
            # Freed memory goes back to the copying stream, but not before the computing one has done with it.
            tensor.record_stream(computing)
    return batch


@lru_cache(maxsize=1)
def _copy_stream(gpu: torch.device) -> torch.cuda.Stream:
    """Return the one of the whole process: each stream keeps freed memory of its own."""
    return torch.cuda.Stream(gpu)  # type: ignore[no-untyped-call]


def _already_a_batch(batch: Any) -> Any:
    return batch


_processes: WeakKeyDictionary[Any, list[BaseProcess]] = WeakKeyDictionary()
"""The loader processes of each iterator over batches."""


def _ends(batches: Iterator[Any]) -> str:
    """Return how each dead loader process ended: its signal or its exit code."""
    ended = ((process.pid, process.exitcode) for process in _processes[batches] if process.exitcode is not None)
    return ", ".join(
        f"pid {pid}: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}" for pid, code in ended
    )


def end_loaders() -> None:
    """End the loader processes of this process, persistent ones too, and the threads beside them.

    torch does so when nothing refers to an iterator any more. After an error, its traceback does, and in a notebook for
    as long as nobody looks at another error. And torch waits 5 s for each process that waits itself.
    """
    _kill_loader_processes()
    for iterator in list(_processes):
        if hasattr(iterator, "_shutdown_workers"):  # not without loader processes
            iterator._shutdown_workers()
    atexit.unregister(end_loader_processes)


def end_loader_processes() -> None:
    """Kill what loader processes are left when the interpreter exits.

    They ignore SIGTERM, which is what multiprocessing would send them before it waits for them, for ever.
    """
    _kill_loader_processes()


def _kill_loader_processes() -> None:
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _start_worker(_worker: int) -> None:
    ignore_stop_signals()
    # A forked process holds its rank's sockets open: it must not outlive the rank, or the others would wait for it.
    die_with_parent()
    info = get_worker_info()
    assert info is not None
    assert isinstance(info.dataset, SentImages)
    info.dataset.start_process()
