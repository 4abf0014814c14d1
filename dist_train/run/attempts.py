"""What ``provenance.json`` says of the attempts of a run, whoever wrote it."""

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
