"""The global random generators of this process, seeded for one sample."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch


@contextmanager
def seeded_generators(key: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy, torch's CPU and OpenCV within the block, and restore them after it.

    It takes about 50 us. OpenCV's generator cannot be read, and is not restored.
    """
    python, numpy, torchs = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        random.seed(key)
        np.random.seed(key & 0xFFFFFFFF)
        torch.default_generator.manual_seed(key)
        cv2.setRNGSeed(key & 0x7FFFFFFF)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(torchs)
