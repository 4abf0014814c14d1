"""Random seeds as pure functions of what they belong to, and the generators they go into."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


def fold_in(seed: int, *keys: int | str) -> int:
    """A 63-bit seed for the random numbers that belong to ``keys``; like ``jax.random.fold_in``.

    >>> fold_in(0, "epoch", 3) == fold_in(0, "epoch", 3) != fold_in(0, "epoch", 4)
    True
    """
    digest = hashlib.blake2b(repr((seed, *keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(key: int, devices: Sequence[torch.device]) -> None:
    """Seed the generators that dropout and drop path draw from: the CPU's, and those of the devices that compute.

    Several devices of one process get a seed each.
    """
    # `torch.manual_seed` takes 5 % of a step of 6 ms longer (benchmarks/results/shortcuts.md).
    torch.default_generator.manual_seed(key)
    if len(devices) > 1:
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(fold_in(key, device.index))
    elif devices[0].type == "cuda":
        torch.cuda.manual_seed(key)


@contextmanager
def restored_generators() -> Iterator[None]:
    """A block after which the global generators of Python, NumPy and torch go on as before it.

    Those of GPUs too, if the program has used a GPU before.
    """
    python, numpy = random.getstate(), np.random.get_state()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
