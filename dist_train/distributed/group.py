"""This process among the ranks, and the collectives. No other module calls collectives of ``torch.distributed``.

The same code runs at world size 1, where every collective returns its input.
"""

import datetime
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dist_train.config.choices import STRATEGIES
from dist_train.distributed.collectives import all_gather, as_bytes, broadcast_together
from dist_train.distributed.heartbeat import Heartbeat, Word, sign_of_life, word_of
from dist_train.distributed.meeting import backend_of, meeting_place, not_met
from dist_train.errors import CommError, ConfigError, DistTrainError
from dist_train.system.machine.memory import keep_freed_memory
from dist_train.system.machine.network import check_network
from dist_train.system.start import check_start, whole_number

if TYPE_CHECKING:
    from dist_train.config.sections.distributed import DistributedConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Dist:
    """This process among ``world_size`` ranks.

    Attributes:
        device: the device of this rank.
        strategy: the name of the strategy, a row of ``config.choices.STRATEGIES``.
        control: a gloo group for objects and flags on the CPU, so that these never wait for the GPU.
        timeout_s: how long a collective waits for a rank.
    """

    rank: int
    local_rank: int
    world_size: int
    device: torch.device
    strategy: str
    control: dist.ProcessGroup | None = None
    timeout_s: float = 600

    @classmethod
    def alone(cls, device: torch.device | str = "cpu", strategy: str = "none") -> "Dist":
        """Return a world of one process."""
        return cls(0, 0, 1, torch.device(device), strategy)

    def __deepcopy__(self, memo: object) -> "Dist":
        return self  # sync_bn layers hold a Dist, and the EMA copies the model: a process group cannot be copied

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum ``tensor`` over all ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def stack(self, tensor: Tensor) -> Tensor:
        """Return the tensors [*S] of all ranks as one tensor [world_size, *S], on every rank."""
        if self.world_size == 1:
            return tensor[None].clone()
        out = tensor.new_empty((self.world_size, *tensor.shape))
        all_gather(out.view(-1), tensor.reshape(-1))
        return out

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Broadcast the buffers of rank 0 to all ranks, in one message: BatchNorm's running statistics differ between ranks."""
        buffers = [buffer for buffer in model.buffers() if buffer.layout is torch.strided and buffer.numel()]
        if self.world_size > 1 and buffers:
            broadcast_together(buffers)

    def of_main(self, tensor: Tensor) -> Tensor:
        """Return the tensor of rank 0, on every rank. Every rank must call it, with the same shape and dtype."""
        content = tensor.detach().clone(memory_format=torch.contiguous_format)
        if self.world_size > 1 and content.numel():
            dist.broadcast(as_bytes(content), src=0)
        return content

    def gather_objects(self, value: T) -> list[T]:
        """Return the values of all ranks, in the order of ranks, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def from_main(self, work: Callable[[], T]) -> T:
        """Call ``work`` on rank 0; return its result, or raise its ``DistTrainError``, on every rank.

        It may take any time: the other ranks wait as long as rank 0 gives signs of life.

        Raises:
            CommError: rank 0 is stuck, or lost.
        """
        if self.world_size == 1:
            with self._beating(lambda word: None):
                return work()
        word = Word(busy=True)
        if self.is_main:
            with self._beating(self._send):
                word = word_of(work)
            self._send(word)
        while word.busy:
            word = self._receive()
            sign_of_life()
        if word.error is not None:
            raise word.error
        return word.value  # type: ignore[no-any-return]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run a block without collectives; if it raises ``DistTrainError`` on some ranks, all raise the first of them.

        The block may take any time on any rank: the others wait as long as that rank gives signs of life.

        Raises:
            CommError: a rank is stuck, or lost.
        """
        mine: DistTrainError | None = None
        with self._beating(self._round):
            try:
                yield
            except DistTrainError as error:
                mine = error
        words = self._round(Word(error=mine))
        while any(word.busy for word in words):
            sign_of_life()
            words = self._round(Word(error=mine))
        first = next((word.error for word in words if word.error is not None), None)
        if first is not None:
            raise first

    def _send(self, word: Word) -> None:
        dist.broadcast_object_list([word], src=0, group=self.control)

    def _receive(self) -> Word:
        received: list[Any] = [None]
        dist.broadcast_object_list(received, src=0, group=self.control)
        return received[0]  # type: ignore[no-any-return]

    def _round(self, mine: Word) -> list[Word]:
        """Return what each rank says; raise the error of a rank that is stuck."""
        words = self.gather_objects(mine)
        stuck = next((word.error for word in words if word.stuck), None)
        if stuck is not None and not mine.stuck:
            raise stuck
        return words

    @contextmanager
    def _beating(self, say: Callable[[Word], object]) -> Iterator[None]:
        """Tell the other ranks, while the block works, that it goes on; or that it is stuck, and then they give up."""

        def beat(alive: bool) -> None:
            if alive:
                say(Word(busy=True))
            elif self.world_size > 1:
                error = CommError(
                    f"rank {self.rank} is stuck in {heart.place()}: a file system, a network or a process has not answered "
                    f"for {self.timeout_s:g} s (`distributed.timeout_s`)"
                )
                say(Word(error=error, stuck=True))
                raise error

        heart = Heartbeat(self.timeout_s, beat)
        with heart:
            yield

    def post_max(self, flag: Tensor) -> dist.Work | None:
        """Start the maximum of a CPU tensor over all ranks, in place. Wait for the returned work before reading it."""
        if self.world_size == 1:
            return None
        return dist.all_reduce(flag, dist.ReduceOp.MAX, group=self.control, async_op=True)


@contextmanager
def joined(cfg: "DistributedConfig") -> Iterator[Dist]:
    """Join the other ranks, if torchrun started several, and leave them after the block.

    If the program already has a process group, use it and do not destroy it.

    Raises:
        ConfigError: the strategy does not fit how the process was started, or the environment is wrong.
        CommError: the other ranks did not join in time.
    """
    ours = not dist.is_initialized()
    if ours:
        check_start()
    world_size = whole_number("WORLD_SIZE", 1) if ours else dist.get_world_size()
    strategy = choose_strategy(cfg.strategy.name, world_size, torch.cuda.device_count())
    among_ranks = STRATEGIES.find(strategy).ranks
    local_rank = whole_number("LOCAL_RANK", 0) if among_ranks else 0
    device = _device(local_rank)
    if not among_ranks:
        yield Dist(0, 0, 1, device, strategy, timeout_s=cfg.timeout_s)
        return
    timeout = datetime.timedelta(seconds=cfg.timeout_s)
    if ours and world_size > 1:
        check_network(nccl=device.type == "cuda")
    try:
        if ours:
            dist.init_process_group(**backend_of(device, timeout), **meeting_place(timeout))
        control = dist.new_group(backend="gloo", timeout=timeout)
        assert isinstance(control, dist.ProcessGroup)
    except (RuntimeError, ValueError, CommError) as error:
        raise not_met(error) from error
    yield Dist(dist.get_rank(), local_rank, dist.get_world_size(), device, strategy, control, cfg.timeout_s)
    dist.destroy_process_group(None if ours else control)  # not after an error: it would wait for a lost rank


def choose_strategy(wanted: str, world_size: int, gpus: int) -> str:
    """Return the strategy for ``distributed.strategy=wanted`` in a process that sees ``gpus`` GPUs.

    Raises:
        ConfigError: the wanted strategy does not work with this start or these GPUs.
    """
    under_torchrun, key = "RANK" in os.environ, f"`distributed.strategy` ({wanted})"
    if wanted == "auto":
        several = gpus > 1 and not under_torchrun
        return "ddp" if world_size > 1 else "dp" if several else "none"
    row = STRATEGIES.find(wanted)
    if world_size == 1 and row.shards:
        return "none"
    if world_size > 1 and not row.ranks:
        raise ConfigError(
            f"{key} is for one process, but torchrun started {world_size}; "
            f"use auto, or start plain `python -m dist_train`"
        )
    if row.ranks and not under_torchrun:
        raise ConfigError(f"{key} needs torchrun: torchrun --nproc_per_node=N -m dist_train ...")
    if gpus < row.gpus:
        raise ConfigError(f"{key} needs at least {row.gpus} GPUs, but this process sees {gpus}; use auto")
    return wanted


def _device(local_rank: int) -> torch.device:
    """Return the device of this rank. If it is a GPU, make it the current one before any other CUDA call."""
    gpus = torch.cuda.device_count()
    if gpus == 0:
        keep_freed_memory()
        return torch.device("cpu")
    if local_rank >= gpus:
        error = ConfigError(f"local rank {local_rank} has no GPU: this node has {gpus}; use --nproc_per_node={gpus}")
        error.of_one_rank = local_rank == gpus  # rank 0 has a GPU and waits, so the first rank without one prints this
        raise error
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def hosts_of(group: Dist) -> list[str]:
    """Return the host name of every rank, in the order of ranks."""
    return group.gather_objects(socket.gethostname())


def gpu_names() -> list[str]:
    """Return the names of the GPUs that this process sees."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def gpu_addresses(count: int) -> list[str]:
    """Return the PCI addresses of the first ``count`` GPUs that this process sees, as sysfs writes them: ``0000:1b:00.0``."""
    found: list[Any] = [torch.cuda.get_device_properties(number) for number in range(count)]
    return [f"{gpu.pci_domain_id:04x}:{gpu.pci_bus_id:02x}:{gpu.pci_device_id:02x}.0" for gpu in found]


@contextmanager
def left_group() -> Iterator[None]:
    """Restore the current GPU after the block; after an error, also destroy a process group that the block made.

    ``joined`` does not destroy its group after an error, because a command exits at once anyway, and destroying a group
    waits for collectives in progress. NCCL would wait for lost ranks, so it is aborted first.
    """
    ours = not dist.is_initialized()
    gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    try:
        yield
    except BaseException:
        if ours and dist.is_initialized():
            if dist.get_backend() == "nccl" and dist.group.WORLD is not None:
                dist.group.WORLD.abort()
            dist.destroy_process_group()
        raise
    finally:
        if gpu is not None:
            torch.cuda.set_device(gpu)
