"""Random seeds as pure functions of keys (epoch, step, rank, ...), and the global random generators."""

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

AT_ONCE = 4096
"""Values whose texts and digests ``fold_in_each`` holds at a time: half a megabyte."""


def fold_in(seed: int, *keys: int | str) -> int:
    """Return a 63-bit seed derived from ``seed`` and ``keys``, as ``jax.random.fold_in`` does.

    >>> fold_in(0, "epoch", 3) == fold_in(0, "epoch", 3) != fold_in(0, "epoch", 4)
    True
    """
    digest = hashlib.blake2b(repr((seed, *keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def fold_in_each(seed: int, key: int | str, last: Sequence[str]) -> NDArray[np.int64]:
    """Return ``fold_in(seed, key, value)`` for each value, int64 [N], in a quarter of the time: for millions of names."""
    begun = hashlib.blake2b(f"{(seed, key)!r}"[:-1].encode() + b", ", digest_size=8)
    found = np.empty(len(last), "<u8")
    for start in range(0, len(last), AT_ONCE):
        digests = []
        for text in _representations(last[start : start + AT_ONCE]):
            digest = begun.copy()
            digest.update(text)
            digests.append(digest.digest())
        found[start : start + AT_ONCE] = np.frombuffer(b"".join(digests), "<u8")
    return (found >> np.uint64(1)).astype(np.int64)


def _representations(values: Sequence[str]) -> Iterable[bytes]:
    """Return ``repr`` of each value and a closing bracket, in UTF-8."""
    joined = "/".join(values)
    if "'" in joined or "\\" in joined or not (_is_plain(joined) or joined.isprintable()):
        return (f"{value!r})".encode() for value in values)
    return ("'" + "')\0'".join(values) + "')").encode().split(b"\0")


def _is_plain(text: str) -> bool:
    """Return whether all characters are printable ones of ASCII; ``isprintable`` looks each of them up."""
    if not text.isascii() or not text:
        return False
    codes = np.frombuffer(text.encode(), np.uint8)
    return bool(codes.min() >= ord(" ") and codes.max() <= ord("~"))


def reseed(key: int, devices: Sequence[torch.device]) -> None:
    """Seed the generators that dropout and drop path use: those of the CPU and of ``devices``.

    If there are several devices, each gets its own seed.
    """
    # `torch.manual_seed` would add 5 % to a step of 6 ms (benchmarks/results/shortcuts.md).
    torch.default_generator.manual_seed(key)
    if len(devices) > 1:
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(fold_in(key, device.index))
    elif devices[0].type == "cuda":
        torch.cuda.manual_seed(key)


@contextmanager
def restored_generators() -> Iterator[None]:
    """Restore the global random generators of Python, NumPy and torch after the block.

    This includes the generators of GPUs if the program has already used a GPU.
    """
    python, numpy = random.getstate(), np.random.get_state()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
