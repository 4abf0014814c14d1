"""Runs of ``--cluster local`` with the stand-in trainer: read their folders."""

import json
import time
from pathlib import Path
from typing import Any


def result_of(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "runs" / "tiny" / "result.json").read_text())


def starts_of(tmp_path: Path) -> list[dict[str, Any]]:
    return json.loads((tmp_path / "runs" / "tiny" / "starts.json").read_text())


def wait_for_step(tmp_path: Path, step: int) -> None:
    give_up_at = time.time() + 60
    while time.time() < give_up_at:
        try:
            if result_of(tmp_path)["step"] >= step:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached")
