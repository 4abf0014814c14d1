"""What is said of runs that begin from the weights of another one: the command in error messages, and the parent."""

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dist_train.config.schema import Config
from dist_train.config.yaml_text import parse_yaml
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.system.files import sha256_of
from dist_train.system.program import program


def how_to_branch(run: RunDir, values: Mapping[str, Any]) -> str:
    """Return the words, for an error message, that name the command to begin a run with other values from these weights.

    Args:
        values: by dotted key, those that this start has changed.
    """
    overrides = " ".join(_override(key, value) for key, value in values.items())
    command = f"{program('branch')} {shlex.quote(str(run.path))} --name NEW {overrides}".strip()
    return f"begin a new run from its weights: {command}"


def _override(key: str, value: Any) -> str:
    text = json.dumps(value)
    if isinstance(value, str):
        with suppress(ConfigError):  # as YAML the text is an error; in quotes it is not
            text = value if parse_yaml(value, key) == value else text
    return shlex.quote(f"{key}={text}")


def parent_of(cfg: Config) -> dict[str, Any] | None:
    """Return the run whose weights ``model.weights`` names, for ``provenance.json``; None if it is not in a run folder."""
    if cfg.model.weights is None:
        return None
    file = Path(cfg.model.weights)
    run = RunDir(file.parent)
    kind = {run.best.name: "best", run.last.name: "last"}.get(file.name)
    if kind is None or not run.provenance.is_file() or not file.is_file():
        return None
    result = read_result(run)
    step = (result.get("best") or {}).get("step") if kind == "best" else result.get("step")
    return {"run": str(run.path.resolve()), "weights": kind, "step": step, "sha256": sha256_of(file)}
