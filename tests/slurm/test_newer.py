"""The fault table on another SLURM: that of Debian 13, in a chroot, with a cluster of its own. It takes an hour: `slow`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    faults = [sys.executable, "benchmarks/slurm_faults.py", f"--results={tmp_path}"]
    done = subprocess.run(
        [TESTCLUSTER, "alone", *faults], env=env, cwd=lab.ROOT, capture_output=True, text=True, check=False
    )
    rows = json.loads((tmp_path / "slurm_faults.json").read_text())
    assert {row["slurm"][:5] for row in rows} == {"24.11"}
    assert [row for row in rows if not row["ok"]] == [], done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
