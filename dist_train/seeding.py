"""Random seeds as pure functions of what they belong to, and the generators they go into."""

import hashlib

import torch

from dist_train.distributed.group import Dist


def fold_in(seed: int, *keys: int | str) -> int:
    """A 63-bit seed for the random numbers that belong to ``keys``; like ``jax.random.fold_in``.

    >>> fold_in(0, "epoch", 3) == fold_in(0, "epoch", 3) != fold_in(0, "epoch", 4)
    True
    """
    digest = hashlib.blake2b(repr((seed, *keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(key: int, group: Dist) -> None:
    """Seed the generators that dropout and drop path draw from; ``torch.manual_seed`` would take 80 us."""
    torch.default_generator.manual_seed(key)
    if group.device.type == "cuda":
        torch.cuda.default_generators[group.device.index].manual_seed(key)
    if group.strategy == "dp":  # DataParallel's replicas draw on their own devices
        for number, generator in enumerate(torch.cuda.default_generators):
            generator.manual_seed(fold_in(key, number))
