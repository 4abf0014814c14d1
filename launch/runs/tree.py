"""Which run began from the weights of which, and which is the average of which."""

from pathlib import Path
from typing import Any

from dist_train.run.folder import RunDir
from dist_train.system.files import read_json
from launch.runs.reader import Run

MOST_MEMBERS = 8

Line = tuple[int, str]
"""Depth in the tree, and text."""


def tree(runs: list[Run]) -> list[Line]:
    """Return the tree as lines, a child below its parent; without runs that have neither. Empty if no run has a parent.

    A parent that is not among the runs is named by its folder. An average has several parents, and stands by itself.
    """
    names = {str(run.path.resolve()): run.name for run in runs}
    children: dict[str, list[tuple[str, str]]] = {}
    averages = []
    for path, name in names.items():
        origin = read_json(RunDir(Path(path)).provenance, default={})
        parent, members = _parent(origin), _members(origin, names)
        if parent is not None and parent[0] != path:
            children.setdefault(parent[0], []).append((path, f"{name}: from the {parent[1]}"))
        elif members:
            averages.append(path)
            names[path] = f"{name}: average of {', '.join(members)}"
    has_parent = {path for found in children.values() for path, _ in found}
    roots = [path for path in dict.fromkeys([*children, *averages]) if path not in has_parent]
    return [line for root in roots for line in _below(root, names.get(root, root), 0, children, set())]


def _below(path: str, text: str, depth: int, children: dict[str, list[tuple[str, str]]], seen: set[str]) -> list[Line]:
    """Return the lines of a run and of what began from it; a file of others may say that a run is its own ancestor."""
    found = [(depth, text)]
    for child, about in children.get(path, []):
        if child not in seen:
            seen.add(child)
            found += _below(child, about, depth + 1, children, seen)
    return found


def _parent(origin: dict[str, Any]) -> tuple[str, str] | None:
    """Return the folder of the parent and which weights of it; None without one."""
    parent = origin.get("parent")
    if not isinstance(parent, dict) or not isinstance(parent.get("run"), str):
        return None
    return parent["run"], f"{str(parent.get('weights'))[:20]} weights (step {str(parent.get('step'))[:20]})"


def _members(origin: dict[str, Any], names: dict[str, str]) -> list[str]:
    """Return the names of the files that an average was made of."""
    average = origin.get("average")
    members = average.get("members") if isinstance(average, dict) else None
    if not isinstance(members, list):
        return []
    files = [
        Path(each["file"])
        for each in members
        if isinstance(each, dict) and each.get("kept") and isinstance(each.get("file"), str)
    ]
    shown = [_name(file, names) for file in files[:MOST_MEMBERS]]
    return shown + ([f"{len(files) - len(shown)} more"] if len(files) > len(shown) else [])


def _name(file: Path, names: dict[str, str]) -> str:
    """Return the name of a run for the file of its weights; for a checkpoint the run's name and the step's."""
    for folder in (file.parent, file.parent.parent.parent):  # RUN/best.safetensors, RUN/checkpoints/step_00000005/...
        if str(folder) in names:
            return names[str(folder)] if folder == file.parent else f"{names[str(folder)]} {file.parent.name}"
    return str(file)
