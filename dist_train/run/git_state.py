"""The git commit of the running code, and what differs from it. Imports no torch."""

import subprocess
from pathlib import Path
from typing import Any

from dist_train.system.files import read_json

CODE = Path(__file__).resolve().parents[2]
"""The folder that contains the package: a git checkout, ``site-packages``, or a job's copy of the code."""
COPY_NOTE = "snapshot.json"
"""The file in a copy of the code that records the git state of the checkout at the time of the copy."""
MOST_NAMES = 20
LIMIT_S = 10.0


def git_state(code: Path = CODE) -> dict[str, Any] | None:
    """Return the commit of ``code`` and what differs from it; None if git does not track the code.

    For a job's copy of the code, return the state that the copy records.

    Returns:
        ``commit``; ``dirty``: whether a tracked file of the repository has changed; ``untracked``: the ``count`` and the
        first ``names`` of files and folders that git neither tracks nor ignores, None if git took too long to list them.
    """
    if (code / COPY_NOTE).exists():
        known = read_json(code / COPY_NOTE, default={})
        return {key: known[key] for key in ("commit", "dirty", "untracked") if key in known} or None
    if _git(code, "ls-files", "--error-unmatch", "dist_train/__init__.py") is None:
        return None  # no git, no checkout, or the package is installed inside the checkout of another project
    changed = _git(code, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": (_git(code, "rev-parse", "HEAD") or "").strip() or None,
        "dirty": None if changed is None else bool(changed),
        "untracked": _untracked(code),
    }


def git_diff(code: Path, *paths: str) -> str:
    """Return the output of ``git diff`` between the commit and the files at ``paths``."""
    return _git(code, "diff", "HEAD", "--", *paths) or ""


def _untracked(code: Path) -> dict[str, Any] | None:
    listed = _git(code, "status", "--porcelain", "--untracked-files=normal", "-z")
    if listed is None:
        return None
    names = [entry[3:] for entry in listed.split("\0") if entry.startswith("?? ")]
    return {"count": len(names), "names": names[:MOST_NAMES]}


def _git(code: Path, *command: str) -> str | None:
    """Return what git prints; None if it fails, is missing, or takes too long."""
    try:
        done = subprocess.run(("git", "-C", code, *command), capture_output=True, check=True, timeout=LIMIT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")
