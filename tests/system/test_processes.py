"""Who dies with whom."""

import os
import signal
import subprocess
import sys
import time

from dist_train.system import processes

PARENT = """
import os, signal, sys, time
from dist_train.system import processes
child = processes.start_guarded([sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), [signal.SIGTERM])
print(child.pid, flush=True)
time.sleep(60)
"""


def wait_gone(pid: int) -> bool:
    give_up_at = time.time() + 10
    while time.time() < give_up_at:
        if pid not in processes.children(1) and not os.path.exists(f"/proc/{pid}"):
            return True
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_guarded_process_is_deaf_and_dies_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        child = int(parent.stdout.readline())
        assert processes.children(parent.pid) == [child]
        assert child in processes.descendants(os.getpid())
        processes.send([child], signal.SIGTERM)
        time.sleep(0.3)
        assert processes.children(parent.pid) == [child], "it should not have heard SIGTERM"
        parent.kill()
        parent.wait()
    assert wait_gone(child)


def test_a_signal_to_a_process_that_is_gone_is_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    processes.send([process.pid], signal.SIGTERM)
