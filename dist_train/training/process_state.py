"""Restore the state of the process after a training inside another program."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import cv2

from dist_train.distributed.group import left_group
from dist_train.learning.algorithms import restored_algorithms
from dist_train.seeding import restored_generators
from dist_train.system.machine.memory import restored_malloc
from dist_train.system.machine.numa import restored_cores
from dist_train.system.signals import restored_handlers
from dist_train.system.terminal import restored_log
from dist_train.training.parts.compiled import restored_compiler


@contextmanager
def restored_process() -> Iterator[None]:
    """Restore the state of the process after the block, also after an error.

    This covers the handlers of the stop signals, the log, the C library's malloc settings, torch's deterministic
    algorithms, the compiler's settings, the environment variable of cuBLAS, the random generators, OpenCV's threads, the process group, the
    current GPU and the cores that the process may use.
    """
    with ExitStack() as restored:
        restored.callback(cv2.setNumThreads, cv2.getNumThreads())
        for owner in (
            restored_handlers,
            restored_log,
            restored_malloc,
            restored_cores,
            restored_algorithms,
            restored_compiler,
            restored_generators,
            left_group,
        ):
            restored.enter_context(owner())
        yield
