"""A data set as loader processes read it: batches go into shared memory, and no error is lost on the way."""

import pickle
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from dist_train.data.dataset import ImageBatches
from dist_train.data.loading.batch_memory import NOTHING, BatchMemory, Parcel
from dist_train.data.sampler import SampleKey

STATES = {
    "D": "waits for a disk or a file server",
    "T": "is stopped",
    "t": "is stopped by a debugger",
    "R": "computes",
    "S": "waits",
}
"""Of a process in Linux (proc(5)), by the letter in ``/proc/PID/stat``."""


class SentImages(Dataset[Parcel]):
    """Batches of ``images`` as ``Parcel``s.

    Args:
        workers: loader processes.
        prefetch: batches that each keeps ready.
        batch_size: images in the largest batch.
        timeout_s: how long the training process waits for a batch.
    """

    def __init__(self, images: ImageBatches, workers: int, prefetch: int, batch_size: int, timeout_s: int) -> None:
        self._images, self.timeout_s = images, timeout_s
        self._measures = workers, prefetch, batch_size * images.image_bytes
        self._memory: BatchMemory | None = None

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, keys: Sequence[SampleKey]) -> Parcel:
        assert self._memory is not None
        try:
            return self._memory.put(self._images.__getitems__(keys))
        except Exception as error:
            if _can_be_sent(error):
                raise
            raise RuntimeError(f"{type(error).__qualname__}: {error}\n{traceback.format_exc()}") from None

    def begin(self, same_processes: bool) -> None:
        """Make memory for the loader processes that are about to start; keep it if they stay from the last time."""
        if self._memory is None or not same_processes:
            self._memory = BatchMemory(*self._measures)

    def start_process(self) -> None:
        """Take up work in a loader process."""
        assert self._memory is not None
        self._images.reading = self._memory.note_process()

    def end(self) -> None:
        """Give back the memory of batches after the last one has been read."""
        if self._memory is not None:
            self._memory.release()

    def state(self) -> str:
        """Return what each loader process does now."""
        assert self._memory is not None
        return "; ".join(
            f"process {number} (pid {pid}) {_state_of(pid)}{self._work(index)}"
            for number, (pid, index) in enumerate(self._memory.processes())
        )

    def _work(self, index: int) -> str:
        return "" if index == NOTHING else f", at {self._images.name(index)}"


def _can_be_sent(error: Exception) -> bool:
    """Return whether another process can read the class: torch sends it, in a thread that loses its own errors."""
    try:
        pickle.dumps(type(error))
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def _state_of(pid: int) -> str:
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] if pid else ""
    except OSError:
        letter = ""
    return STATES.get(letter, "has ended" if pid else "has not started")


def sent_images_of(loader: Any) -> SentImages | None:
    """Return what the processes of a loader read; None if the training process reads."""
    return loader.dataset if isinstance(loader.dataset, SentImages) else None
