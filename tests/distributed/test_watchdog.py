"""Stacks are printed when there is no sign of life, and only then."""

import subprocess
import sys

import pytest

CODE = """
import time
from dist_train.distributed.watchdog import StackDump
stacks = StackDump(0.5)
stacks.beat()
{then}
time.sleep(1.0)
"""


@pytest.mark.parametrize(("then", "dumped"), [("", True), ("stacks.close()", False)])
def test_stacks_of_a_process_that_makes_no_progress(then: str, dumped: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(then=then)], capture_output=True, text=True, check=True, timeout=60
    )
    assert ("Timeout" in done.stderr) == dumped
    assert ("line 7 in <module>" in done.stderr) == dumped


def test_a_timer_of_somebody_else_goes_on_if_there_was_no_beat() -> None:
    code = (
        "import faulthandler, time; faulthandler.dump_traceback_later(0.5)\n"
        "from dist_train.distributed.watchdog import StackDump\nStackDump(9).close()\ntime.sleep(1.0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "Timeout" in done.stderr
