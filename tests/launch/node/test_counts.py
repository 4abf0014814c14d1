"""The number of ranks that ``--nproc-per-node`` asks for, by torchrun's words."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from dist_train.system.machine.cores import usable_cores
from launch.node import counts

COMPILER = shutil.which("cc")
CUDA = r"""
#include <stdlib.h>
int cuInit(unsigned flags) { return getenv("NO_DRIVER") ? 100 : 0; }
int cuDeviceGetCount(int *count) { *count = 3; return 0; }
"""


@pytest.mark.parametrize("text", ["0", "-2", "gpus", ""])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"above 0, or one of gpu, cpu, auto$"):
        counts.ranks(text)


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "gpu_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cpus = usable_cores()
    assert [counts.count(counts.ranks(text)) for text in ("3", "cpu", "auto")] == [3, cpus, cpus]
    with pytest.raises(ConfigError, match=r"can use none \(CUDA_VISIBLE_DEVICES=\): look at `nvidia-smi`"):
        counts.count("gpu")


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize(("variables", "found"), [({}, "[3, 3]"), ({"NO_DRIVER": "1"}, "[0, 0]")])
def test_the_driver_counts_gpus_in_a_process_of_its_own(tmp_path: Path, variables: dict[str, str], found: str) -> None:
    (tmp_path / "cuda.c").write_text(CUDA)
    library = tmp_path / "libcuda.so.1"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", library, tmp_path / "cuda.c"], check=True)
    code = (
        "import os; from launch.node import counts\n"
        "print([counts.gpu_count(), counts.gpu_count()])\n"
        "assert 'libcuda' not in open('/proc/self/maps').read()"
    )
    env = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)} | variables
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found
