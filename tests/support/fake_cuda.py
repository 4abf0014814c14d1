"""A GPU that is not there, so that what is written for one can be run: ``pretend_gpu()`` in a process of its own.

Tensors on ``cuda:0`` are torch's fake tensors: they know shape, layout, type and device, and hold no values; tensors on the
host are real. Each operation checks, as a GPU would, that its tensors are on one device, and, as no GPU would, that its
stream waited for what others make. Noted is what makes the host wait for the device, and what torch has no deterministic
kernel for raises where the run asked for one. Numbers read from the device are 0, truths true, copied arrays full of ones.
A copy into pinned memory takes place when the host asks the second time whether it is done, or waits for it. Until then (or until
it waits itself) no stream may change what is copied, and its memory may not be freed.

Replaced in torch is what asks the driver: the questions after devices, generators, streams, events, pinned memory, and the
engine of the backward pass, which wants streams; ``backward`` calls the same nodes in its place.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.fake_streams import Copy, Event, Stream

READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "histc", "_linalg_check_errors")
"""Operators whose result decides what the host does next; so do all forms of ``unique``."""

NOT_DETERMINISTIC = (
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d_backward", "avg_pool3d_backward", "fractional_max_pool2d_backward", "histc", "put_",
    "fractional_max_pool3d_backward", "upsample_linear1d_backward", "upsample_bilinear2d_backward", "nll_loss2d_forward",
    "upsample_bicubic2d_backward", "upsample_trilinear3d_backward", "_upsample_bilinear2d_aa_backward", "max_unpool2d",
    "_upsample_bicubic2d_aa_backward", "reflection_pad1d_backward", "reflection_pad2d_backward", "_ctc_loss_backward",
    "reflection_pad3d_backward", "grid_sampler_2d_backward", "grid_sampler_3d_backward", "median", "nll_loss2d_backward",
)  # fmt: skip
"""What raises on a GPU under ``torch.use_deterministic_algorithms(True)``, by its documentation."""

GPU = torch.device("cuda", 0)


class FakeGpu(TorchDispatchMode):
    """Runs what touches the device on fake tensors, and the rest as it is.

    Attributes:
        on: whether waiting is noted in ``waits``.
        ran: the names of all operators that the device was given.
        seeds: what its generator was seeded with.
        registered: memory that was pinned after it was allocated: address and size in bytes.
        stream: the queue of work that operations join.
        copies: those into pinned memory that are not done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.waits: list[str] = []
        self.ran: set[str] = set()
        self.seeds: list[int] = []
        self.stream = Stream(self)
        self._fake = FakeTensorMode()
        self._pinned: dict[int, Tensor] = {}
        self.registered: dict[int, int] = {}
        self.copies: list[Copy] = []

    @contextmanager
    def noting(self, on: bool = True) -> Iterator[None]:
        before, self.on = self.on, on
        try:
            yield
        finally:
            self.on = before

    @contextmanager
    def on_stream(self, stream: "Stream") -> Iterator[None]:
        """``torch.cuda.stream``."""
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def note(self, reason: str) -> None:
        if self.on:
            frames = traceback.extract_stack()[:-2]
            where = next(f for f in reversed(frames) if "/torch/" not in f.filename and f.filename != __file__)
            self.waits.append(f"{reason}, {Path(where.filename).name} line {where.lineno}: {where.line}")

    def pin(self, tensor: Tensor) -> Tensor:
        pinned = tensor.clone()
        self._pinned[pinned.untyped_storage().data_ptr()] = pinned
        return pinned

    def register(self, address: int, size: int, flags: int) -> int:
        """``cudaHostRegister``: memory that the program has becomes pinned memory."""
        self.registered[address] = size
        return 0

    def unregister(self, address: int) -> int:
        del self.registered[address]
        return 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        values = pytree.arg_tree_leaves(*args, **kwargs)
        if not any(_is_fake(v) or (isinstance(v, torch.device) and v.type == "cuda") for v in values):
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        self.ran.add(name)
        beside = name == "copy_" and self._is_pinned(args[0])
        for value in values if func.namespace == "aten" else ():
            self.stream.check(value, kept=beside)
        self._check_copies(func, name, args, kwargs)
        if name in NOT_DETERMINISTIC and torch.are_deterministic_algorithms_enabled():
            raise RuntimeError(f"{name} does not have a deterministic implementation, as torch says on a GPU")
        reason = self._why_wait(name, args, kwargs, [v for v in values if isinstance(v, Tensor) and not _is_fake(v)])
        if reason:
            self.note(reason)
        if name == "_local_scalar_dense":
            return args[0].dtype == torch.bool or torch.zeros((), dtype=args[0].dtype).item()
        if name == "copy_" and not _is_fake(args[0]):  # from the device into memory of the host
            if not beside:
                return args[0].fill_(1)
            self.stream._operations += 1
            self.copies.append(Copy(args[0].fill_(0), args[1], self.stream))
            return args[0]
        if name.startswith("_fused_") and name.endswith("_"):
            return _check_fused(name, args)
        with self._fake:
            args, kwargs = pytree.tree_map(self._as_fake, (args, kwargs))
            out = func(*args, **kwargs)
        return pytree.tree_map(self.stream.made, pytree.tree_map(_as_real, out))

    def _is_pinned(self, value: Tensor) -> bool:
        address = 0 if _is_fake(value) else value.data_ptr()
        return any(begin <= address < begin + size for begin, size in self.registered.items())

    def _check_copies(self, func: Any, name: str, args: Any, kwargs: Any) -> None:
        """Check that what is being copied is still there, and that this operation does not change it."""
        under_way = [copy for copy in self.copies if not self.stream.has_waited_for(copy.stream, copy.number)]
        for copy in under_way:
            assert not copy.source.expired(), "freed before its copy is done"
        if not under_way:
            return
        given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
        written = {argument.name for argument in func._schema.arguments if argument.is_write}
        if "batch_norm" in name and "backward" not in name:
            written |= {"running_mean", "running_var"}  # some forms do not say it
        for value in pytree.arg_tree_leaves(*(given.get(argument) for argument in written)):
            if isinstance(value, Tensor):
                mine = StorageWeakRef(value.untyped_storage())
                assert all(copy.source != mine for copy in under_way), (
                    f"{name} changes a tensor before its copy is done"
                )

    def finish(self, until: "dict[Stream, int] | None" = None) -> None:
        """Let copies take place: those of each stream up to this operation; None: all."""
        done = [copy for copy in self.copies if until is None or until.get(copy.stream, 0) >= copy.number]
        for copy in done:
            copy.place.fill_(1)
            self.copies.remove(copy)

    def _as_fake(self, value: Any) -> Any:
        return self._fake.from_tensor(value) if isinstance(value, Tensor) and not _is_fake(value) else value

    def _why_wait(self, name: str, args: Any, kwargs: Any, host: list[Tensor]) -> str:
        """What of this call makes the host wait for the device; empty if nothing does."""
        if name in READS or "unique" in name or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            return name
        if name in ("index", "index_put", "index_put_"):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            scalar = name != "index" and not _is_fake(args[2]) and args[2].dim() == 0  # becomes masked_fill
            return f"{name} by a mask" if masks and not scalar else ""
        if name in ("_to_copy", "copy_"):
            return self._why_copy_waits(name, args, kwargs, host)
        # A scalar of the host goes to the kernel by value.
        return f"{name} of a tensor on the host" if any(tensor.dim() for tensor in host) else ""

    def _why_copy_waits(self, name: str, args: Any, kwargs: Any, host: list[Tensor]) -> str:
        to_host = not _is_fake(args[0]) if name == "copy_" else kwargs.get("device") == torch.device("cpu")
        if to_host:
            return "" if name == "copy_" and True in args[2:] and self._is_pinned(args[0]) else "copy to the host"
        if not host:
            return ""
        if not (kwargs.get("non_blocking") or (name == "copy_" and True in args[2:])):
            return "copy from the host"
        pinned = host[0].untyped_storage().data_ptr() in self._pinned
        return "" if pinned else "copy from memory that is not pinned"


def _is_fake(value: Any) -> bool:
    return isinstance(value, FakeTensor)


def _as_real(value: Any) -> Any:
    if _is_fake(value) and value.device.type == "cpu":
        return torch.ones(value.shape, dtype=value.dtype)
    return value


def _check_fused(name: str, args: Any) -> None:
    """What a fused optimizer demands of its lists of tensors; torch has no fake kernels for all of them."""
    parameters, *others = (values for values in args if isinstance(values, list | tuple) and values)
    for values in (parameters, *others[: 2 if name == "_fused_sgd_" else 3]):
        for parameter, value in zip(parameters, values, strict=True):
            for what in ("device", "dtype", "shape"):
                assert getattr(value, what) == getattr(parameter, what), (
                    f"{name}: {what} of {value} is not a parameter's"
                )
            assert _strides(value) == _strides(parameter), f"{name}: another layout than its parameter's"


def _strides(tensor: Tensor) -> list[int]:
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def pretend_gpu() -> FakeGpu:
    """Have torch see one GPU, in this process and for good; enter what is returned to use it."""
    gpu = FakeGpu()
    generator = SimpleNamespace(
        manual_seed=gpu.seeds.append, get_state=lambda: torch.zeros(16, dtype=torch.uint8), set_state=lambda state: None
    )
    for holder, names in {
        torch.cuda: {
            "is_available": lambda: True, "is_initialized": lambda: True, "_lazy_init": lambda: None,
            "device_count": lambda: 1, "current_device": lambda: 0, "set_device": lambda device: None,
            "is_bf16_supported": lambda *_: True, "is_current_stream_capturing": lambda: False, "default_generators": (generator,), "Event": lambda **_: Event(gpu),
            "Stream": lambda *_: Stream(gpu), "stream": gpu.on_stream, "current_stream": lambda *_: gpu.stream,
            "cudart": lambda: SimpleNamespace(cudaHostRegister=gpu.register, cudaHostUnregister=gpu.unregister),
            "max_memory_allocated": lambda *_: 0, "get_device_name": lambda *_: "a GPU",
            "get_device_properties": lambda number=0: SimpleNamespace(pci_domain_id=0, pci_bus_id=number, pci_device_id=0), "synchronize": lambda *_: (gpu.note("synchronize"), gpu.finish()),
        },
        torch.cuda.random: {"current_device": lambda: 0},
        torch.accelerator: {
            "is_available": lambda: True, "set_device_index": lambda index: None,
            "current_accelerator": lambda **_: torch.device("cuda"), "current_device_index": lambda: 0, "current_stream": lambda *_: SimpleNamespace(is_capturing=lambda: False),
        },
        Tensor: {"pin_memory": lambda tensor: gpu.pin(tensor), "backward": lambda root, gradient=None: backward(root if gradient is None else root * gradient),
                 "record_stream": lambda tensor, stream: setattr(tensor, "used_by", stream)},
        fake_tensor: {"init_gpu_context": lambda device: None},  # it would allocate on the device
        FakeTensorMode: {"__deepcopy__": lambda mode, memo: mode},  # a copied tensor is on the same device
    }.items():  # fmt: skip
        for name, value in names.items():
            setattr(holder, name, value)
    torch._C._ensureCUDADeviceGuardSet()
    # Has torch.tensor(..., device="cuda") copy from the host by an operator, which can be seen.
    torch._C._set_only_lift_cpu_tensors(True)
    return gpu


def backward(root: Tensor) -> None:
    """What ``root.backward()`` does, one node after the other: each when all its gradients are there."""
    waiting = _edges_into(root.grad_fn)
    gradients: dict[Any, dict[int, Tensor]] = {root.grad_fn: {root.output_nr: torch.ones_like(root)}}
    ready = [root.grad_fn]
    while ready:
        node = ready.pop()
        given = gradients.pop(node, {})
        with torch.no_grad():
            inputs = [_fitting(given.get(place), wanted) for place, wanted in enumerate(node._input_metadata)]
            # A Function in Python has ``apply``, and gives more: a None for each argument that is no tensor, at the end.
            outputs = getattr(node, "apply", node)(*inputs) if given else None
        outputs = outputs if isinstance(outputs, tuple) else (outputs,) * len(node.next_functions)
        for (after, place), gradient in zip(node.next_functions, outputs, strict=False):
            if after is None:
                continue
            if gradient is not None:
                slots = gradients.setdefault(after, {})
                slots[place] = slots[place] + gradient if place in slots else gradient
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(after)


def _edges_into(root: Any) -> dict[Any, int]:
    counts, found = {root: 0}, [root]
    while found:
        for after, _ in found.pop().next_functions:
            if after is not None:
                if after not in counts:
                    counts[after] = 0
                    found.append(after)
                counts[after] += 1
    return counts


def _fitting(gradient: Tensor | None, wanted: Any) -> Tensor | None:
    """A gradient as the node wants it; torch's engine checks and converts the same."""
    if gradient is None:
        return None
    assert gradient.device == wanted.device, f"a gradient on {gradient.device}, not {wanted.device}"
    return gradient.to(wanted.dtype).sum_to_size(wanted.shape)
