"""Which checkpoint a start continues from, and whether it may."""

from pathlib import Path
from typing import Any

from dist_train.checkpoint.manifest import Manifest
from dist_train.checkpoint.store import Checkpoints
from dist_train.config import Config
from dist_train.config.resume_keys import arithmetic
from dist_train.data.changed_files import changes_since
from dist_train.data.index import DataIndex
from dist_train.errors import ConfigError, DataError
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result


def find_checkpoint(
    cfg: Config, checkpoints: Checkpoints, index: DataIndex, given: dict[str, str], only_look: bool = False
) -> Path | None:
    """The newest valid checkpoint's folder, or None, as ``run.resume`` allows. For rank 0.

    Args:
        given: names of the objects given in code (``Given.names``).
        only_look: leave damaged ones where they are.

    Raises:
        ConfigError, DataError: the run may not go on like this; it is left as it is.
    """
    found = checkpoints.newest(only_look)
    try:
        if found is None:
            _may_begin(cfg, RunDir.of(cfg))
            return None
        _may_go_on(cfg, index, *found)
        refuse_changed_parts(*found, given, "given.")
    except (ConfigError, DataError) as error:
        error.of_this_start = True
        raise
    return found[0]


def _may_begin(cfg: Config, run: RunDir) -> None:
    if cfg.run.resume == "must":
        raise ConfigError(f"`run.resume` (must): {run.checkpoints} holds no valid checkpoint; use auto to begin anew")
    known = read_result(run)
    # A run killed before its first checkpoint is neither; one whose only checkpoint was damaged comes back by itself.
    removed = known.get("status") == "stopped" and not any(run.checkpoints.glob("*step_*"))
    if removed or known.get("status") == "done":
        raise ConfigError(
            f"{run.path} is {known['status']} at step {known['step']}, and {run.checkpoints} holds no valid checkpoint: to "
            "begin anew would overwrite its results; restore a checkpoint, remove the run, or choose another `run.name`"
        )


def _may_go_on(cfg: Config, index: DataIndex, path: Path, manifest: Manifest) -> None:
    if cfg.run.resume == "never":
        raise ConfigError(
            f"`run.resume` (never): {path} exists; choose another `run.name`, remove the run, or use auto to continue it"
        )
    _same_arithmetic(manifest, arithmetic(cfg), path)
    _same_data(manifest, index, RunDir.of(cfg))


def _same_arithmetic(manifest: Manifest, now: dict[str, Any], path: Path) -> None:
    changes = [
        f"`{key}` was {then!r} and is now {now[key]!r}"
        for key, then in manifest.config.items()
        if key in now and then != now[key]
    ]
    if changes:
        raise ConfigError(
            f"{path} belongs to a run with other arithmetic: {'; '.join(changes)}. "
            "Restore these values, or give the new run another `run.name`"
        )


def refuse_changed_parts(path: Path, manifest: Manifest, now: dict[str, str], prefix: str) -> None:
    """Compare the parts of a run that no config holds: objects given in code, and frozen weights.

    Args:
        now: this start's, by keys that begin with ``prefix``; a part that is not there has no key.

    Raises:
        ConfigError: the checkpoint was made with others.
    """
    then = {key: value for key, value in manifest.config.items() if key.startswith(prefix)}
    changes = [
        f"`{key}` was {then.get(key, 'absent')} and is now {now.get(key, 'absent')}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    if changes:
        error = ConfigError(
            f"{path} belongs to a run with other parts: {'; '.join(changes)}. "
            "Restore them, or give the new run another `run.name`"
        )
        error.of_this_start = True
        raise error


def _same_data(manifest: Manifest, index: DataIndex, run: RunDir) -> None:
    if manifest.data_fingerprint != index.fingerprint:
        raise DataError(
            f"`data.root` ({index.root}) is not what the run began with: {changes_since(run.listing, index)} "
            f"(fingerprint {index.fingerprint[:12]}, the checkpoint's is {manifest.data_fingerprint[:12]}); "
            "restore the folder, or begin a new run under another `run.name`"
        )
