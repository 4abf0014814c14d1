"""A clock that stands still while this process is suspended: by SIGSTOP, ``scontrol suspend`` or a frozen cgroup.

``time.monotonic`` runs on meanwhile, and no system call tells how long a process was suspended. So a thread looks at the time
twice a second. A look that comes late, while the watched thread neither computed nor waited for a core, follows a suspension.
"""

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICK_S = 0.5
LATE_S = 2.0
"""On a busy machine a look may come so late. A shorter suspension counts as time awake."""
COMPUTED = 0.2
"""A thread that computes and holds the interpreter's lock delays a look too: for more than this share of the delay it runs,
or waits for a core."""


class _Clock:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asleep_s = self._looked_at = self._used_s = 0.0
        self._watched: Path | None = None
        self.over = threading.Event()

    def start(self) -> threading.Thread:
        """Watch the calling thread. Return the thread that looks."""
        self._watched = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._looked_at, self._used_s = time.monotonic(), used_s(self._watched)
        self.over = threading.Event()
        thread = threading.Thread(target=self._run, args=(self.over,), name="clock", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self.look()
        self.over.set()
        with self._lock:
            self._watched = None

    @property
    def running(self) -> bool:
        return self._watched is not None

    def now(self) -> float:
        """Return the seconds awake. Before the thread has looked, a caller may notice that a look is late."""
        if self._watched is not None and time.monotonic() - self._looked_at > LATE_S:
            self.look()
        return time.monotonic() - self._asleep_s

    def look(self) -> None:
        with self._lock:
            if self._watched is None:
                return
            now, used = time.monotonic(), used_s(self._watched)
            passed_s = now - self._looked_at
            if passed_s > LATE_S and used - self._used_s < COMPUTED * passed_s:
                self._asleep_s += passed_s - TICK_S
            self._looked_at, self._used_s = now, used

    def _run(self, over: threading.Event) -> None:
        while not over.wait(TICK_S):
            self.look()


def used_s(watched: Path) -> float:
    """Return how long a thread (``/proc/self/task/ID/schedstat``) has run on a core or waited for one; infinite, for always
    awake, if the kernel does not say.
    """
    try:
        ran_ns, waited_ns, _ = watched.read_text().split()
    except OSError:
        return math.inf
    return (int(ran_ns) + int(waited_ns)) / 1e9


_clock = _Clock()


def _forget() -> None:
    """Forget, in a forked process, the thread that looks and the lock that it may hold: the thread is not there."""
    global _clock
    _clock = _Clock()


os.register_at_fork(after_in_child=_forget)


def awake_s() -> float:
    """Return the seconds of ``time.monotonic`` without those in which this process was suspended inside ``ticking`` blocks."""
    return _clock.now()


@contextmanager
def ticking() -> Iterator[None]:
    """Notice suspensions while the block runs; the calling thread is the one that works."""
    if _clock.running:
        yield
        return
    thread = _clock.start()
    try:
        yield
    finally:
        _clock.stop()
        thread.join()
