"""Models with state that few models have, for `model.name: tests.support.odd_models:NAME`."""

import threading
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Small(nn.Module):
    """A convolution, a BatchNorm and a head. Subclasses change what lies between."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, num_classes)

    def before_norm(self, maps: Tensor) -> Tensor:
        return maps

    def before_head(self, features: Tensor) -> Tensor:
        return features

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.norm(self.before_norm(self.conv(images))))
        return self.head(self.before_head(maps.mean((2, 3))))  # type: ignore[no-any-return]


class Overflowing(Small):
    """Activations overflow in a share of the training passes; which ones is a function of the step's seed."""

    share = 0.3

    def before_norm(self, maps: Tensor) -> Tensor:
        hit = torch.rand((), device=maps.device) < self.share
        return maps * torch.where(hit, torch.inf, 1.0) if self.training else maps


class OverflowingRarely(Overflowing):
    """For steps of many passes."""

    share = 0.05


class WideStatistics(Small):
    """Loss and gradients stay finite while the running variance overflows, in the same passes on one rank only."""

    share = 0.3

    def before_norm(self, maps: Tensor) -> Tensor:
        hit = torch.rand((), device=maps.device) < self.share
        return maps * torch.where(hit, 1e25, 1.0) if self.training else maps


class WideStatisticsRarely(WideStatistics):
    """For steps of many passes."""

    share = 0.05


class OneRank(Small):
    """A buffer overflows on one of the ranks only, and nothing reads it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("largest", torch.zeros(8))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int16))

    def before_head(self, features: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
            factor = torch.where(torch.rand((), device=features.device) < 0.3, torch.inf, 1.0)
            self.largest = torch.maximum(self.largest, features.detach().amax(0) * factor)
        return features


class Mask(Small):
    """A mask with -inf, as in every attention over a sequence; one more as a frozen parameter."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("mask", torch.full((8, 8), -torch.inf).triu(1))
        self.bias = nn.Parameter(torch.tensor([0.0, -torch.inf]), requires_grad=False)

    def before_head(self, features: Tensor) -> Tensor:
        return features @ self.mask.softmax(-1) + self.bias.softmax(0)[1]


class ReadsItsAverage(Small):
    """The training pass reads statistics that each rank has for itself, and that ``state_dict`` leaves out."""

    def __init__(self, num_classes: int, persistent: bool = False) -> None:
        super().__init__(num_classes)
        self.register_buffer("average", torch.zeros(8), persistent=persistent)

    def before_head(self, features: Tensor) -> Tensor:
        if self.training:
            self.average = 0.9 * self.average + 0.1 * features.detach().mean(0)
        return features - self.average


class ReadsStatistics(Small):
    """The training pass reads what standard norm layers keep, the later ones only after some steps, as BatchRenorm does."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.cumulative = nn.BatchNorm1d(8, affine=False, momentum=None)
        self.tracking = nn.InstanceNorm2d(8, track_running_stats=True)
        self.untracked = nn.BatchNorm1d(8, track_running_stats=False)
        self.register_buffer("mean", torch.zeros(8))

    def before_norm(self, maps: Tensor) -> Tensor:
        return self.tracking(maps) - 0.1 * self.norm.running_mean.view(-1, 1, 1)  # type: ignore[no-any-return, union-attr]

    def before_head(self, features: Tensor) -> Tensor:
        self.cumulative(features)
        if self.cumulative.num_batches_tracked > 2:  # type: ignore[operator]
            features = features - self.cumulative.running_mean
        by_hand = F.batch_norm(features, self.mean.clone(), torch.ones_like(self.mean), training=False)
        if self.training:
            self.mean.lerp_(features.detach().mean(0), 0.1)
        return self.untracked(by_hand) if self.training else by_hand


class CountsEvaluations(Small):
    """A counter moves in eval mode too, and training reads it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def before_head(self, features: Tensor) -> Tensor:
        self.calls += 1
        return features * (1 + self.calls.float() / 100)


class Formats(Small):
    """Buffers of formats that few models have, of no dimension, transposed, expanded and empty."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("turns", torch.polar(torch.ones(8), torch.arange(8.0)))
        self.register_buffer("words", torch.arange(8).to(torch.uint16))
        self.register_buffer("small", torch.ones(8).to(torch.float8_e4m3fn))
        self.register_buffer("brief", torch.ones((), dtype=torch.bfloat16))
        self.register_buffer("turned", torch.arange(16.0).view(2, 8).t())
        self.register_buffer("wide", torch.ones(1, 8).expand(4, 8))
        self.register_buffer("empty", torch.zeros(0, 8))

    def before_head(self, features: Tensor) -> Tensor:
        if self.training:
            self.turns *= 1j
            self.words.copy_((self.words.int() + 1).to(torch.uint16))
            self.wide[0] += 1
            self.brief.mul_(0.5)
        return features * (1 + self.turns.real.abs()) * self.small.float()


class Refused(Small):
    """A buffer that no safetensors file can hold."""

    def __init__(self, num_classes: int, kind: str = "sparse", persistent: bool = True) -> None:
        super().__init__(num_classes)
        made = {
            "sparse": lambda: torch.eye(8).to_sparse(),
            "complex128": lambda: torch.ones(8, dtype=torch.complex128),
            "quantised": lambda: torch.quantize_per_tensor(torch.ones(8), 0.1, 0, torch.quint8),
        }
        self.register_buffer("odd", made[kind](), persistent=persistent)


class ExtraState(Small):
    """State of its own kinds, which changes in training."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.seen: Any = {"version": 3, "when": (1, 2), "raw": b"\x00abc", "steps": torch.zeros(2), 5: None}

    def before_head(self, features: Tensor) -> Tensor:
        if self.training:
            self.seen = {**self.seen, "version": self.seen["version"] + 1}
        return features

    def get_extra_state(self) -> Any:
        return self.seen

    def set_extra_state(self, state: Any) -> None:
        assert isinstance(state["when"], tuple)
        assert isinstance(state["raw"], bytes)
        self.seen = state


class ExtraBytes(Small):
    """As a quantised layer of a library keeps it."""

    def get_extra_state(self) -> Any:
        return b"abc"

    def set_extra_state(self, state: Any) -> None:
        assert state == b"abc"


class ExtraObject(Small):
    """Extra state that only pickle could hold."""

    def get_extra_state(self) -> Any:
        return {"lock": {1, 2}}

    def set_extra_state(self, state: Any) -> None: ...


class Lazy(nn.Module):
    """Layers whose shapes the first pass finds, and a buffer that it adds."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.LazyConv2d(8, 3, stride=2), nn.LazyBatchNorm2d()
        self.head = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.norm(self.conv(images))).mean((2, 3))
        if not hasattr(self, "offset"):
            self.register_buffer("offset", torch.zeros_like(features[:1]))
        return self.head(features + self.offset)  # type: ignore[no-any-return]


class Lock(Small):
    """An attribute that cannot be copied."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.lock = threading.Lock()


class Growing(Small):
    """A buffer that gets longer in each training pass."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("memory", torch.zeros(0, 8))

    def before_head(self, features: Tensor) -> Tensor:
        if self.training:
            self.memory = torch.cat((self.memory, features.detach()))
        return features


class NoAffine(Small):
    """Statistics without parameters: outside the head, and in it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.first, self.norm = nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(8, affine=False)
        self.head = nn.Sequential(nn.BatchNorm1d(8, affine=False), nn.Linear(8, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.first(images))


class Switch(Small):
    """Does what a test says in the next training passes: ``kind`` is a key of ``FAULTS``."""

    kind = ""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("largest", torch.zeros(8))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int16))
        self.register_buffer("mask", torch.full((3, 2), -torch.inf), persistent=False)
        self.register_buffer("turns", torch.ones(2, dtype=torch.complex64))

    def before_norm(self, maps: Tensor) -> Tensor:
        return maps * {"activation": torch.inf, "variance": 1e25}.get(self.kind, 1.0)

    def before_head(self, features: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
            self.turns *= torch.nan if self.kind == "complex" else 1j
            self.largest = torch.maximum(self.largest, features.detach().float().amax(0))
            if self.kind == "buffer":
                self.largest = self.largest * torch.inf
        if self.kind == "norm":  # each gradient is finite, their norm is not
            features.register_hook(lambda grad: grad * 1e25)
        if self.kind == "loss":  # the loss is infinite, its gradient is finite
            return features + torch.inf * (features.detach() < torch.inf)
        return features


FAULTS = ("activation", "variance", "buffer", "complex", "norm")
