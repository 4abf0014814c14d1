"""The process that writes checkpoints: what it reads, and what it answers."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

from dist_train.checkpoint.manifest import ExtraFile, Job
from tests.support.states import manifest_of

HEADER, PAYLOAD = b"header", bytes(range(200))
WITHOUT_TORCH = """
import sys
sys.modules['torch'] = None
from dist_train.checkpoint.writer import main
main(int(sys.argv[1]))
"""
WITHOUT_CODE = """
import builtins, sys
from dist_train.checkpoint import writer
from dist_train.system import processes
loaded, die = set(sys.modules), writer.die_with_parent
def no_import(name, *args, **kwargs):
    assert name in loaded, f"{name} is imported during a save"
    return imported(name, *args, **kwargs)
imported, builtins.__import__ = builtins.__import__, no_import
writer.main(int(sys.argv[1]))
assert not {name for name in set(sys.modules) - loaded if "dist_train" in name}
"""


def _serve(code: str, *jobs: Job) -> list[str]:
    """The answers of a writer."""
    memory = os.memfd_create("payload")
    os.write(memory, PAYLOAD + b"what an earlier, longer state has left")
    done = subprocess.run(
        [sys.executable, "-c", code, str(memory)],
        input=b"".join(map(pickle.dumps, (*jobs, None))),
        stdout=subprocess.PIPE,
        pass_fds=[memory],
        check=True,
        timeout=60,
    )
    os.close(memory)
    return done.stdout.decode().splitlines()


def test_an_error_ends_its_own_job_only(tmp_path: Path) -> None:
    folder, best = tmp_path / "checkpoints", tmp_path / "best.safetensors"
    extra = ExtraFile(best, b"head", [(3, 5), (190, 200)])
    blocked = tmp_path / "file"
    blocked.touch()
    ready, *answers = _serve(
        WITHOUT_TORCH,
        Job(folder, None, manifest_of(1), 2, HEADER, len(PAYLOAD), [extra]),
        Job(blocked, None, manifest_of(2), 2, HEADER, len(PAYLOAD), []),
        Job(folder, tmp_path / "no rows yet", manifest_of(3), 2, HEADER, 0, []),
    )
    assert (ready, answers) == ("", ["", f"File exists ({blocked})", ""])
    assert (folder / "step_00000001" / "state.safetensors").read_bytes() == HEADER + PAYLOAD
    assert (folder / "step_00000003" / "state.safetensors").read_bytes() == HEADER
    assert best.read_bytes() == b"head" + PAYLOAD[3:5] + PAYLOAD[190:]


def test_all_that_a_save_needs_is_imported_at_the_start(tmp_path: Path) -> None:
    extra = ExtraFile(tmp_path / "best.safetensors", b"head", [(3, 5)])
    jobs = [Job(tmp_path / "checkpoints", None, manifest_of(n), 1, HEADER, len(PAYLOAD), [extra]) for n in (1, 2)]
    assert _serve(WITHOUT_CODE, *jobs) == ["", "", ""]
