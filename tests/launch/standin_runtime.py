"""A stand-in for ``apptainer`` and for srun with pyxis, neither of which is installed where the tests run.

It records its arguments, gives the command what a real runtime would (an image with variables of its own, default signal
handlers, a parent that is not the supervisor), and takes no notice of signals, as ``apptainer exec`` does.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

IN_IMAGE = {"PYTHONPATH": "/opt/image", "COLOUR": "of the image"}


def install(folder: Path, name: str) -> Path:
    """Make an executable ``name`` in ``folder``. Return the file with its arguments, one JSON list per call."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} {folder / "calls"} "$@"\n')
    program.chmod(0o755)
    return folder / "calls"


def main(name: str, calls: str, *args: str) -> int:
    """Run the command that comes after the options, inside."""
    with open(calls, "a") as file:
        file.write(json.dumps([name, *args]) + "\n")
    env = os.environ | IN_IMAGE
    if name == "apptainer":
        command = list(args[args.index("my.sif") + 1 :])
        env |= {key.partition("_")[2]: value for key, value in os.environ.items() if key.startswith("APPTAINERENV_")}
    else:
        command = list(args[next(place for place, arg in enumerate(args) if place and not arg.startswith("-")) :])
        (names,) = [arg.partition("=")[2] for arg in args if arg.startswith("--container-env=")]
        env |= {key: os.environ[key] for key in names.split(",")}
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda number, frame: None)
    shim = "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])"
    return subprocess.run([sys.executable, "-c", shim, *command], env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
