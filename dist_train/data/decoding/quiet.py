"""Pillow without its warnings and without its limit of pixels, in any number of threads at a time."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from PIL import Image


class _Settings:
    """Both settings belong to the process: the first thread that enters changes them, the last that leaves restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._as_before = ExitStack()

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._change()

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._as_before.close()

    def forked(self) -> None:
        """In a forked process: restore the settings, because the threads that were inside are not in it."""
        self._lock = threading.Lock()
        self._inside = 0
        self._as_before.close()

    def _change(self) -> None:
        self._as_before.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
        self._as_before.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")


_settings = _Settings()
os.register_at_fork(after_in_child=_settings.forked)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings about odd metadata, and without its limit of pixels: ours is ``data.max_pixels``."""
    _settings.enter()
    try:
        yield
    finally:
        _settings.leave()
