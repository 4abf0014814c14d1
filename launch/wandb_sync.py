"""``python launch/wandb_sync.py RUN...``: upload runs to W&B after the training.

Upload runs that trained offline, or whose upload was interrupted. It is safe to interrupt this command and to repeat it.
Live runs and folders without W&B data are skipped, with a message. Exit code 1: the W&B server lacks rows of a run.
"""

import glob
import subprocess
import sys
import time
from pathlib import Path

if not __package__:  # run as a file, from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dist_train.loggers.wandb.files import client_env, only_uploader_of, session_path
from dist_train.run.folder import RunDir
from dist_train.system.foreign_text import printable
from dist_train.system.program import Parser
from dist_train.system.terminal import given_path
from launch.installation import command

LIVE_S = 60.0
"""A trainer touches the run's lock every 2 s; the clock of another host may differ."""


def main(argv: list[str]) -> int:
    """Return the exit code."""
    parser = Parser(prog=command("wandb-sync"), description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("runs", nargs="+", metavar="RUN", type=given_path, help="run folders, or patterns in quotes")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="time limit per run (600)")
    args = parser.parse_args(argv)
    folders = [Path(found) for pattern in map(str, args.runs) for found in sorted(glob.glob(pattern)) or [pattern]]
    failed = [folder for folder in folders if not _synced(RunDir(folder), args.timeout)]
    if failed:
        names = printable(" ".join(map(str, failed)))
        print(f"{len(failed)} of {len(folders)} not complete: {names}", file=sys.stderr)
    return 1 if failed else 0


def _synced(run: RunDir, timeout_s: float) -> bool:
    """Upload one run. Whatever is wrong with its folder, the next run is not affected."""
    try:
        return sync(run, timeout_s)
    except (OSError, ValueError) as error:
        print(printable(f"{run.path}: not uploaded, because its folder cannot be used ({error})"), file=sys.stderr)
        return False


def sync(run: RunDir, timeout_s: float) -> bool:
    """Upload one run. Return whether its upload is complete."""
    if not run.path.is_dir():
        print(printable(f"{run.path}: no such folder"), file=sys.stderr)
        return False
    if not session_path(run).exists():
        if any(session_path(RunDir(inside)).exists() for inside in run.path.iterdir()):
            print(printable(f"{run.path}: this folder contains runs: use {run.path}/*"), file=sys.stderr)
            return False
        print(printable(f"{run.path}: no W&B data, skipped"))
        return True
    try:
        if is_live(run):
            print(printable(f"{run.path}: live, skipped"))
            return True
    except OSError as error:
        print(printable(f"{run.path}: not uploaded, because its folder cannot be written ({error})"), file=sys.stderr)
        return False
    command = [sys.executable, "-m", "dist_train.loggers.wandb.resync", str(run.path)]
    try:
        return subprocess.run(command, env=client_env(run), stdin=subprocess.DEVNULL, timeout=timeout_s).returncode == 0
    except subprocess.TimeoutExpired:
        print(
            printable(f"{run.path}: stopped after {timeout_s:.0f} s; run this again, with a longer --timeout"),
            file=sys.stderr,
        )
        return False


def is_live(run: RunDir) -> bool:
    """Return whether a trainer, on this host or another, still works on this run."""
    with only_uploader_of(run, wait_s=0.0) as alone:
        if not alone:
            return True
    return run.lock.exists() and time.time() - run.lock.stat().st_mtime < LIVE_S


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
