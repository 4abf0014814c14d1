"""What a run folder says of how it was trained, in ``provenance.json`` and the manifests, whoever wrote them."""

from typing import Any

from dist_train.run.folder import RunDir
from dist_train.system.files import read_json


def attempts_of(run: RunDir) -> list[dict[str, Any]]:
    """Return the entry of each attempt, the oldest first. An entry of another kind is left out."""
    attempts = read_json(run.provenance, default={}).get("attempts")
    return [entry for entry in attempts if isinstance(entry, dict)] if isinstance(attempts, list) else []


def trained_with(run: RunDir) -> dict[str, Any]:
    """Return the SHA-256 of the file of each ``package.module:name`` with which the last attempt trained."""
    attempts = attempts_of(run)
    code = attempts[-1].get("named_code") if attempts else None
    return code if isinstance(code, dict) else {}


def objects_from_code(run: RunDir) -> dict[str, str]:
    """Return the objects from Python code with which a run was trained: `model`, `data`, `loss` or `objective` -> its qualified name.

    No config names them; the manifests of the checkpoints do.
    """
    for path in sorted(run.checkpoints.glob("step_*/manifest.json"))[-1:]:
        config = read_json(path, default={}).get("config")
        keys = config if isinstance(config, dict) else {}
        return {key.removeprefix("given."): name for key, name in keys.items() if key.startswith("given.")}
    return {}
