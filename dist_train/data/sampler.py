"""Which sample is read when, by whom: a pure function of the seed and the position.

Global step s owns the stream positions ``s * G`` to ``(s + 1) * G - 1``, whatever the world size. Of these,
micro-batch m on rank r of W owns ``B`` from ``s * G + (m * W + r) * B`` on.
"""

from collections.abc import Iterator, Sized
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from dist_train.config.plan import Plan
from dist_train.data.selection.sampling import Sampling
from dist_train.seeding import fold_in

SampleKey = tuple[int, ...]
"""(epoch, index in the data set): all that the augmentation of a sample depends on, beside the seed. Of a sample that an epoch
repeats, the second time and later ones also have their number: (epoch, index, 1), (epoch, index, 2)."""


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the permutation of one epoch, int64 [length]."""
    return np.random.default_rng(fold_in(seed, "order", epoch)).permutation(length)


class StreamSampler(DistributedSampler[Any]):
    """This rank's samples from a step to the end of the run, as ``SampleKey``s.

    A ``DistributedSampler`` that never pads: each epoch's permutation is cut to whole global batches. Iteration
    starts at ``position`` (in optimizer steps) and goes on over the ends of epochs, so that the loader never
    drains; ``set_epoch(e)`` moves to the start of epoch e.

    With ``plan.repeats`` of r, the epoch's stream is the first part of the permutation with each image r times in a row, of the
    same length (repeated augmentation: Hoffer et al., 2020, and Berman et al., 2019; timm's ``RepeatAugSampler`` and
    torchvision's ``RASampler`` without their rounding to 256 images). Within a step, all first times come before all second
    times: so a micro-batch holds different images, as the ranks of these samplers do.

    With ``sampling``, its order takes the place of the permutation, without repeats.
    """

    def __init__(
        self, dataset: Sized, plan: Plan, rank: int, seed: int, position: int = 0, sampling: Sampling | None = None
    ) -> None:
        super().__init__(dataset, num_replicas=plan.world_size, rank=rank, seed=seed, drop_last=True)  # type: ignore[arg-type]
        self.plan = plan
        self.position = position
        self._sampling = sampling

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.position = epoch * self.plan.steps_per_epoch

    def __len__(self) -> int:
        return (self.plan.total_steps - self.position) * self.plan.micro_batch * self.plan.accumulate

    def __iter__(self) -> Iterator[SampleKey]:
        plan = self.plan
        if self._sampling is not None:
            yield from self._sampled(self._sampling)
            return
        for step in range(self.position, plan.total_steps):
            epoch, step_in_epoch = divmod(step, plan.steps_per_epoch)
            order = epoch_order(self.seed, epoch, plan.train_images)
            positions = np.arange(plan.global_batch) + step_in_epoch * plan.global_batch
            times = positions % plan.repeats
            by_time = np.argsort(times, kind="stable")
            for micro in range(plan.accumulate):
                start = (micro * plan.world_size + self.rank) * plan.micro_batch
                mine = by_time[start : start + plan.micro_batch]
                for index, time in zip(
                    order[positions[mine] // plan.repeats].tolist(), times[mine].tolist(), strict=True
                ):
                    yield (epoch, index, time) if time else (epoch, index)

    def _sampled(self, sampling: Sampling) -> Iterator[SampleKey]:
        plan = self.plan
        for epoch in range(self.position // plan.steps_per_epoch, -(-plan.total_steps // plan.steps_per_epoch)):
            order, before = sampling.order(self.seed, epoch)
            first = epoch * plan.steps_per_epoch
            for step in range(max(first, self.position), min(first + plan.steps_per_epoch, plan.total_steps)):
                for micro in range(plan.accumulate):
                    start = (step - first) * plan.global_batch + (
                        micro * plan.world_size + self.rank
                    ) * plan.micro_batch
                    part = slice(start, start + plan.micro_batch)
                    for index, time in zip(order[part].tolist(), before[part].tolist(), strict=True):
                        yield (epoch, index, time) if time else (epoch, index)


class EvaluationBatches:
    """Batches of consecutive samples, dealt whole to ranks: the same batches at any world size, none padded."""

    def __init__(self, length: int, batch_size: int, rank: int, world_size: int) -> None:
        self._length, self.batch_size, self._rank, self._world_size = length, batch_size, rank, world_size

    def __len__(self) -> int:
        return len(range(self._rank * self.batch_size, self._length, self._world_size * self.batch_size))

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for start in range(self._rank * self.batch_size, self._length, self._world_size * self.batch_size):
            yield [(0, index) for index in range(start, min(start + self.batch_size, self._length))]
