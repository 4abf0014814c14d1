"""Upload runs to W&B that trained offline, or whose upload was cut short: ``python launch/wandb_sync.py RUN...``.

Safe to repeat and to interrupt. Live runs and folders without W&B data are skipped, with a message. Every other
run is uploaded by a process of its own with a time limit, and is complete when the server has the last rows. Exit
code 1 if any run is incomplete.
"""

import argparse
import glob
import subprocess
import sys
import time
from pathlib import Path

if not __package__:  # run as a file, from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dist_train.loggers.wandb.files import client_env, only_uploader_of, session_path
from dist_train.run.folder import RunDir
from launch.installation import command

LIVE_S = 60.0
"""A trainer on another host touches the run's lock every few seconds; clocks may differ a little."""


def main(argv: list[str]) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog=command("wandb-sync"), description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders; patterns in quotes are expanded too")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="for one run (default 600)")
    args = parser.parse_args(argv)
    folders = [Path(found) for pattern in args.runs for found in sorted(glob.glob(pattern)) or [pattern]]
    failed = [folder for folder in folders if not sync(RunDir(folder), args.timeout)]
    if failed:
        print(f"{len(failed)} of {len(folders)} not complete: {' '.join(map(str, failed))}", file=sys.stderr)
    return 1 if failed else 0


def sync(run: RunDir, timeout_s: float) -> bool:
    """Upload one run. Return whether nothing is left to upload."""
    if not run.path.is_dir():
        print(f"{run.path}: no such folder", file=sys.stderr)
        return False
    if not session_path(run).exists():
        if any(session_path(RunDir(inside)).exists() for inside in run.path.iterdir()):
            print(f"{run.path}: a folder of runs; name them, as {run.path}/*", file=sys.stderr)
            return False
        print(f"{run.path}: no W&B data, skipped")
        return True
    try:
        if is_live(run):
            print(f"{run.path}: live, skipped")
            return True
    except OSError as error:
        print(f"{run.path}: not uploaded, because its folder cannot be written ({error})", file=sys.stderr)
        return False
    command = [sys.executable, "-m", "dist_train.loggers.wandb.resync", str(run.path)]
    try:
        return subprocess.run(command, env=client_env(run), stdin=subprocess.DEVNULL, timeout=timeout_s).returncode == 0
    except subprocess.TimeoutExpired:
        print(
            f"{run.path}: stopped after {timeout_s:.0f} s; run this again, or with a longer --timeout", file=sys.stderr
        )
        return False


def is_live(run: RunDir) -> bool:
    """Return whether a trainer, here or on another host, still logs this run."""
    with only_uploader_of(run, wait_s=0.0) as alone:
        if not alone:
            return True
    return run.lock.exists() and time.time() - run.lock.stat().st_mtime < LIVE_S


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
