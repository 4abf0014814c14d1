"""Random seeds as pure functions of what they belong to, and the generators they go into."""

import hashlib
from collections.abc import Sequence

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

    Several devices of one process get a seed each. ``torch.manual_seed`` would take 80 us.
    """
    torch.default_generator.manual_seed(key)
    for device in devices:
        if device.type == "cuda":
            own = key if len(devices) == 1 else fold_in(key, device.index)
            torch.cuda.default_generators[device.index].manual_seed(own)
