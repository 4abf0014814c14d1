"""All global generators are seeded by a key; those that can be read are what they were afterwards."""

import random
from typing import Any

import cv2
import numpy as np
import torch

from dist_train.data.augment.ops.seeded import seeded_generators


def drawn() -> list[Any]:
    noise = np.zeros(4)
    cv2.randu(noise, 0, 1)
    return [random.random(), np.random.random(), torch.rand(1).item(), *noise.tolist()]


def test_what_is_drawn_follows_from_the_key() -> None:
    found = []
    for key in (5, 2**63 - 1, 5):
        with seeded_generators(key):
            found.append(drawn())
    assert found[0] == found[2]
    assert not set(found[0]) & set(found[1])


def test_an_error_restores_them_too() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    try:
        with seeded_generators(3):
            drawn()
            raise KeyError
    except KeyError:
        pass
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
