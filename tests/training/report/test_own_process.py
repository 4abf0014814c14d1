"""Commands that a run starts beside itself."""

import sys
from pathlib import Path

import pytest

from dist_train.training.report.own_process import failure_of


@pytest.mark.parametrize(
    ("script", "timeout_s", "why"),
    [
        ("exit 0", 600, ""),
        ("echo error: no room >&2; exit 2", 600, "error: no room"),
        ("exit 3", 600, "exit code 3"),
        ("exec sleep 60", 0.5, "it took more than 0.25 s"),
        (None, 600, "No such file"),
    ],
)
def test_why_a_command_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, timeout_s: float, why: str
) -> None:
    python = tmp_path / "python"
    if script is not None:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    found = failure_of(["report"], timeout_s)
    assert why in found
    assert bool(found) == bool(why)
