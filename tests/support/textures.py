"""Images like photos in one respect: their large parts differ most."""

import numpy as np
from numpy.typing import NDArray


def texture(rng: np.random.Generator, side: int = 64) -> NDArray[np.uint8]:
    """Return random colours with a spectrum that falls as 1/f, uint8 [S, S, 3]."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]) + 1 / side
    noise = rng.standard_normal((side, side)) + 0.3 * rng.standard_normal((3, side, side))
    waves = np.fft.ifft2(np.fft.fft2(noise) / frequency**1.3).real
    waves = (waves - waves.mean()) / waves.std()
    return np.clip(128 + 50 * waves, 0, 255).astype(np.uint8).transpose(1, 2, 0)
