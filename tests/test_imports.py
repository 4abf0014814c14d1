"""What a training checks before its imports, and what it imports."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.runs import changed

PROGRAM = """
import os, sys
from dist_train.config import load_config
from dist_train.imports import prepare
code = prepare(None if len(sys.argv) == 1 else load_config(sys.argv[1]))
print(code, "torch" in sys.modules, len(os.listdir("/proc/self/task")))
import torch; print(torch.cuda.is_initialized())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ranks_can_be_forked_after_the_imports() -> None:
    """No thread runs, and no GPU is in use."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout == "0 True 1\nFalse\n"


def test_a_root_that_is_not_there_is_refused_without_torch(tree: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(changed(tree, data__root=str(tmp_path / "none"))))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout.startswith("2 False")
    assert "none" in done.stderr


def no_file_may_grow() -> None:
    """As on a full or read-only disk: Python finds no folder that takes a temporary file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize(
    "words",
    [
        ["--config"],
        pytest.param(["--check", "--config"], marks=pytest.mark.slow),
        pytest.param(["evaluate"], marks=pytest.mark.slow),
    ],
)
def test_without_temporary_files_a_start_is_refused(words: list[str], tree: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    done = subprocess.run(
        [sys.executable, "-m", "dist_train", *words, path if "--config" in words else tmp_path],
        capture_output=True, text=True, timeout=200, check=False, preexec_fn=no_file_may_grow,
        env={**os.environ, "TMPDIR": "/nowhere"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: `TMPDIR` (/nowhere) must be a folder that exists, has room and can be written"
    )
    assert done.stderr.count("\n") == 1
