"""Notice that the code of a run changes on disk while it runs. The run goes on with the code that is in memory."""

import os
import sys
import sysconfig
from contextlib import suppress
from threading import Thread

import dist_train
from dist_train.run.folder import RunDir
from dist_train.system.files import read_json, write_json

MOST_FILES = 20
"""Of the files that have changed at a time, so many are named in ``provenance.json``."""
INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
PYTHON = os.path.join(sysconfig.get_path("stdlib"), "")

Stamp = tuple[int, int] | None
"""Time of the last change in ns and size in bytes of a file; None if the file does not exist."""


class CodeWatch:
    """The files of the modules that are loaded now: those of this package and those of the user.

    A thread asks the file system, because that may take long: then training goes on, and knows later.
    """

    def __init__(self) -> None:
        self._known = {path: stamp for path in _own_files() if (stamp := _stamp(path))}
        self._changed: list[str] = []
        self._thread: Thread | None = None

    def look(self) -> None:
        """Start to look for changes, unless an earlier look has not ended."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(target=self._look, name="code watch", daemon=True)
            self._thread.start()

    def news(self, limit_s: float) -> list[str]:
        """Return the files whose change was found since the last call. Waits up to ``limit_s`` seconds for a look."""
        if self._thread is not None:
            self._thread.join(limit_s)
        changed, self._changed = self._changed, []
        return changed

    def _look(self) -> None:
        changed = [path for path, stamp in self._known.items() if _stamp(path) != stamp]
        for path in changed:
            del self._known[path]  # reported once
        self._changed = [*self._changed, *changed]


def note_changed_code(run: RunDir, step: int, files: list[str]) -> None:
    """Note in the entry of this attempt that files of its code have changed on disk while it ran.

    Args:
        step: the step at which that was noticed.
    """
    known = read_json(run.provenance, default={})
    with suppress(LookupError, TypeError, AttributeError, OSError):  # the log says it too
        noted = known["attempts"][-1].setdefault("changed_code", [])
        noted.append({"step": step, "count": len(files), "files": files[:MOST_FILES]})
        write_json(run.provenance, known)


def _own_files() -> list[str]:
    """Return the files of the loaded modules that are neither Python's nor an installed package's, and of this package."""
    package = os.path.join(os.path.dirname(dist_train.__file__), "")
    files = {getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values())}
    # Compared as text: as paths, these thousands of files would take 0.06 s at each start.
    named = [file for file in files if isinstance(file, str)]
    return sorted(file for file in named if file.startswith(package) or not _is_foreign(file))


def _is_foreign(file: str) -> bool:
    return file.startswith(PYTHON) or any(folder in file for folder in INSTALLED)


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
