"""Whole runs for tests, and the files that they write."""

import copy
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from dist_train.checkpoint.manifest import Manifest
from dist_train.config import parse_config
from dist_train.system.files import sha256_of
from tests.support.ranks import run_ranks

TIMINGS = (
    *("images_per_s", "data_wait", "data_wait_max", "slowest_rank", "slowest_ratio", "seconds"),
    *("host_mem_gb", "loader_mem_gb"),
)


def changed(tree: dict[str, Any], **overrides: Any) -> dict[str, Any]:
    """A copy of a config tree with ``section__key=value`` replaced."""
    new = copy.deepcopy(tree)
    for path, value in overrides.items():
        *parents, leaf = path.split("__")
        node = new
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return new


def train(tree: dict[str, Any], world_size: int = 1, **overrides: Any) -> Path:
    """Run ``dist_train.training.attempt.main`` on real ranks; all must exit 0.

    Returns:
        The run folder.
    """
    tree = changed(tree, **overrides)
    codes = run_ranks(world_size, _main, tree)
    assert codes == [0] * world_size, codes
    return folder(tree)


def fails(tree: dict[str, Any], capsys: Any, world_size: int = 1) -> str:
    """Run it; no rank may exit 0.

    Args:
        capsys: pytest's fixture.

    Returns:
        What the ranks printed.
    """
    capsys.readouterr()
    assert 0 not in run_ranks(world_size, _main, tree)
    return str(capsys.readouterr().out)


def folder(tree: dict[str, Any]) -> Path:
    return Path(tree["run"]["output_dir"]) / tree["run"]["name"]


def _main(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


def rows(run: Path, split: str | None = None) -> list[dict[str, Any]]:
    """The metrics of a run without timings."""
    every = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if key not in TIMINGS}
        for row in every
        if split in (None, row["split"])
    ]


def state_digest(run: Path, without: str = "", **progress: Any) -> str:
    """SHA-256 over every tensor and value of the newest checkpoint: weights, optimizer, EMA, scaler, progress.

    Args:
        without: a part of the state that does not count.
        progress: values to take in place of those in the state's progress.
    """
    import torch

    from dist_train.checkpoint.stored import load

    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    digest = hashlib.sha256(newest.name.encode())

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
        elif isinstance(value, dict):
            for key in value:
                digest.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    state = load(newest)
    add({key: value for key, value in state.items() if key != without} | {"progress": state["progress"] | progress})
    return digest.hexdigest()


def published(run: Path) -> dict[str, str]:
    """SHA-256 of what a finished run gives to others, with the weights that ``checkpoint.keep_best`` has kept."""
    files = [run / name for name in ("best.safetensors", "last.safetensors", "predictions.npz")]
    return {file.name: sha256_of(file) for file in [*files, *sorted(run.glob("best-*"))]}


def resumes_exactly(tree: dict[str, Any], world_size: int, kept: int, **again: Any) -> Path:
    """Train a run, remove its checkpoints but the first ``kept`` ones, and start it again, with the values ``again``.

    State, rows and published files must be the same.

    Returns:
        The run folder.
    """
    run = train(tree, world_size)
    expected = state_digest(run), rows(run), published(run)
    for checkpoint in sorted((run / "checkpoints").iterdir())[kept:]:
        shutil.rmtree(checkpoint)
    train(tree, world_size, **again)
    assert (state_digest(run), rows(run), published(run)) == expected
    return run


def move_checkpoint(run: Path, step: int, **progress: Any) -> None:
    """Make the newest checkpoint of a run one of another step, evaluated: as if the run had come so far.

    Args:
        progress: more of what the state's progress shall say.
    """
    from dist_train.checkpoint.store import Checkpoints
    from dist_train.checkpoint.stored import load

    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    state, manifest = load(newest), Manifest(**json.loads((newest / "manifest.json").read_text()))
    state["progress"] |= {"step": step, "evaluated": step, **progress}
    shutil.rmtree(run / "checkpoints")
    checkpoints = Checkpoints(run / "checkpoints", keep=1)
    checkpoints.save(state, replace(manifest, step=step, evaluated=True))
    checkpoints.close()
