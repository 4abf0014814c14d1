"""Measure the peak memory of a training run with all its processes, ours and timm's, for the same job.

    python -m benchmarks.memory

The figure is the largest sum of proportional set sizes (PSS): a page that forked loader processes share counts once.
"""

import contextlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.images import small_folder
from benchmarks.measure import Row, interleaved, medians, run_part
from benchmarks.startup import our_command, peer_command

INTERVAL_S = 0.2


def tree_of(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for number in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{number}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def peak_mb(command: Callable[[], list[str]]) -> Callable[[], float]:
    def measure() -> float:
        process = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        output: list[str] = []
        reader = threading.Thread(target=lambda: output.extend(process.stdout or ()), daemon=True)
        reader.start()
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(pss_bytes, tree_of(process.pid))))
            time.sleep(INTERVAL_S)
        reader.join()
        if process.returncode:
            raise SystemExit("".join(output[-30:]))
        return peak / 2**20

    return measure


def measure(quick: bool) -> list[Row]:
    rows = []
    steps = 3 if quick else 20
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_folder(folder / "images", images=64)
        for world in (1, 2):
            sides = {
                "forked": peak_mb(lambda world=world: our_command(folder, 2, steps, world, True)),  # type: ignore[misc]
                "ours": peak_mb(lambda world=world: our_command(folder, 2, steps, world)),  # type: ignore[misc]
                "timm": peak_mb(lambda world=world: peer_command(folder, 2, steps, world)),  # type: ignore[misc]
            }
            middle = medians(interleaved(sides, 1 if quick else 2))
            peer = middle["timm"]
            where = f"{world} rank{'s' * (world > 1)} with 2 workers each"
            for side, by in (("ours", "torchrun"), ("forked", "`dist-train launch`")):
                ours, what = middle[side], f"peak memory of all processes, {where}, {by}"
                rows.append(Row(what, "MB", ours, peer, "timm's script", ours / peer, "<= 1x", ours <= peer))
    return rows


if __name__ == "__main__":
    run_part(__doc__, measure)
