"""Streams, events and copies of the GPU that is not there (tests/support/fake_cuda.py): queues that know only their order."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef

if TYPE_CHECKING:
    from tests.support.fake_cuda import FakeGpu


class Stream:
    """A queue of work. What another queue makes must be waited for, and be told as used here, before it is used here."""

    def __init__(self, gpu: "FakeGpu") -> None:
        self._gpu = gpu
        self._operations = 0
        self._waited_for: dict[Stream, int] = {}

    def __deepcopy__(self, memo: object) -> "Stream":
        return self  # a copied tensor's maker is the same

    def record_event(self) -> "Event":
        event = Event(self._gpu)
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        for stream, number in event.after.items():
            self._waited_for[stream] = max(number, self._waited_for.get(stream, 0))

    def wait_stream(self, other: "Stream") -> None:
        self.wait_event(other.record_event())

    def has_waited_for(self, other: "Stream", number: int) -> bool:
        return other is self or self._waited_for.get(other, 0) >= number

    def made(self, value: Any) -> Any:
        if isinstance(value, FakeTensor):
            self._operations += 1
            value.made_by = self, self._operations
        return value

    def check(self, value: Any, kept: bool = False) -> None:
        """Check a tensor that is used here. ``kept``: its memory is not freed before the work here is done."""
        maker, number = getattr(value, "made_by", (self, 0))
        if maker is not self:
            assert self.has_waited_for(maker, number), "used before the stream that makes it was waited for"
            used = kept or getattr(value, "used_by", None) is self
            assert used, "used by a stream that its memory's owner does not know of"


class Event:
    """A place in a queue: ``after`` says which operations of each stream are done when it is reached."""

    def __init__(self, gpu: "FakeGpu") -> None:
        self._gpu, self._asked = gpu, False
        self.after: dict[Stream, int] = {}

    def record(self, stream: "Stream | None" = None) -> None:
        stream = stream or self._gpu.stream
        self.after = {**stream._waited_for, stream: stream._operations}

    def query(self) -> bool:
        if not self._asked:
            self._asked = True
            return False
        self._gpu.finish(self.after)
        return True

    def synchronize(self) -> None:
        self._gpu.note("synchronize an event")
        self._asked = True
        self._gpu.finish(self.after)

    def elapsed_time(self, end: "Event") -> float:
        return 1.0


class Copy:
    """A copy into pinned memory that has not taken place."""

    def __init__(self, place: Tensor, source: Tensor, stream: Stream) -> None:
        self.place, self.source = place, StorageWeakRef(source.untyped_storage())
        self.stream, self.number = stream, stream._operations
