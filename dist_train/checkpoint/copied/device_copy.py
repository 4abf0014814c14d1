"""Copy a state from a GPU to the host while the GPU goes on training."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from dist_train.checkpoint.format import Layout, copy_tensor


def gpu_of(layout: Layout) -> torch.device | None:
    """Return the GPU that has tensors of a state; None if all are on the host."""
    return next((tensor.device for _, tensor in layout.tensors if tensor.is_cuda), None)


class DeviceCopy:
    """A copy of the tensors on ``gpu``, in progress on a stream of its own. The host does not wait for it.

    Work that is queued after the copy has begun would change tensors before they are copied. So the stream that trains waits for
    the copy, twice: at once for what a forward pass may change, and in ``before_update`` for the rest. Tensors on the host are
    copied at once.

    Args:
        memory: a writable buffer. If it is not pinned, the host waits for each tensor.
        late: whether only an update of the weights changes the tensor of this name.
    """

    def __init__(self, memory: Any, layout: Layout, gpu: torch.device, late: Callable[[str], bool]) -> None:
        copying, training = _copy_stream(gpu), torch.cuda.current_stream(gpu)
        self._gpu = gpu
        # The references keep tensors of this save, such as sums, from being freed before they are copied.
        self._tensors = layout.tensors
        copying.wait_stream(training)
        for of_late in (False, True):
            with torch.cuda.stream(copying):
                for (offset, tensor), name in zip(layout.tensors, layout.names, strict=True):
                    if late(name) == of_late:
                        copy_tensor(memory, offset, tensor)
            self._copied = copying.record_event()
            if not of_late:
                training.wait_event(self._copied)

    def before_update(self) -> None:
        """Have the stream that trains wait for the copy, before the work that changes weights is queued."""
        torch.cuda.current_stream(self._gpu).wait_event(self._copied)

    def done(self) -> bool:
        """Return whether the copy is complete, without waiting."""
        return bool(self._copied.query())

    def wait(self) -> None:
        """Wait until the copy is complete."""
        self._copied.synchronize()


@lru_cache(maxsize=1)
def _copy_stream(gpu: torch.device) -> torch.cuda.Stream:
    """One for the whole process: each stream keeps freed memory of its own."""
    return torch.cuda.Stream(gpu)  # type: ignore[no-untyped-call]
