"""The fault table with clusters of its own: all rows on the SLURM of Debian 13, in a chroot, and on this machine's the rows
that need another cluster than the other tests have. The first takes more than an hour, the second a quarter: `slow`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.slurm_cases import CASES
from tests.slurm import lab

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root for namespaces and chroot"),
]
TESTCLUSTER = str(lab.ROOT / "slurm" / "testcluster")


@pytest.mark.skipif(shutil.which("slurmctld") is None, reason="no SLURM is installed; slurm/testcluster up installs it")
def test_a_command_has_a_cluster_of_its_own_which_ends_with_it() -> None:
    command = "echo $SLURM_CONF; sinfo -h -p low -o %D; (sleep 1000 &) ; exit 3"
    done = subprocess.run([TESTCLUSTER, "alone", "bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    conf, nodes = done.stdout.split()
    assert nodes == "2"
    assert not Path(conf).parent.exists()
    assert f"-f {conf}" not in subprocess.run(["ps", "ax"], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_the_fault_table_holds_on_slurm_24(tmp_path: Path) -> None:
    env = os.environ | {"DEBIAN": "trixie", "PYTHON": sys.executable}
    made = subprocess.run([TESTCLUSTER, "debian"], env=env, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"NO SLURM 24.11: {made.stderr.strip().splitlines()[-1]}")
    assert {row["slurm"][:5] for row in _good_rows(tmp_path, env)} == {"24.11"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(shutil.which("slurmctld") is None, reason="no SLURM is installed; slurm/testcluster up installs it")
def test_suspended_preempting_and_forgotten_runs_end_as_they_must(tmp_path: Path) -> None:
    names = [name for name in CASES if re.search("suspend|each other|forgotten|rolling", name)]
    assert len(names) == 5
    rows = _good_rows(tmp_path, dict(os.environ), *(f"--only={name}" for name in names))
    assert len(rows) == 6, "two runs make two rows"


def _good_rows(folder: Path, env: dict[str, str], *only: str) -> list[dict[str, Any]]:
    """Rows of the fault table, which all must end as expected."""
    faults = [sys.executable, "benchmarks/slurm_faults.py", f"--results={folder}", *only]
    done = subprocess.run(
        [TESTCLUSTER, "alone", *faults], env=env, cwd=lab.ROOT, capture_output=True, text=True, check=False
    )
    rows: list[dict[str, Any]] = json.loads((folder / "slurm_faults.json").read_text())
    assert [row for row in rows if not row["ok"]] == [], done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    return rows
