"""Read the values of the launcher's options. A wrong value is an error of the command line (argparse)."""

import re
from argparse import ArgumentTypeError
from dataclasses import dataclass

from dist_train.config.types import seconds_of

OF_CONTAINERS = {
    **dict.fromkeys(("container", "container-image"), "--container IMAGE, which starts the workers inside"),
    "container-mounts": "--container-mounts",
    **{
        name: f"--container-option {name}"
        for name in (
            *("container-name", "container-save", "container-workdir", "container-env", "container-writable"),
            *("container-mount-home", "container-remap-root", "container-entrypoint", "container-readonly"),
            *("no-container-mount-home", "no-container-remap-root", "no-container-entrypoint"),
        )
    },
}
"""Options of pyxis, which would put the supervisors into the container, where they could not ask SLURM."""
OWNED = {
    **{
        name: f"--{name}"
        for name in ("nodes", "time", "mem", "partition", "account", "qos", "constraint", "reservation")
    },
    **{name: f"--{name}" for name in ("exclude", "gpus-per-node")},
    "cpus-per-task": "--cpus-per-gpu",
    "signal": "--signal-delay",
    "array": "--sweep and --max-parallel",
    "requeue": "--max-requeues",
    "no-requeue": "--max-requeues=0",
    **dict.fromkeys(("ntasks", "ntasks-per-node"), "--procs-per-node: a node has one task, which starts the workers"),
    **dict.fromkeys(("output", "error", "open-mode"), "run.output_dir: the logs are in the run folder"),
    "chdir": "cd: the job starts in the folder where it is submitted, to which relative paths of the config refer",
    "clusters": "a login node of that cluster: status and --follow ask the cluster of this node",
    "no-kill": "nothing: a lost node must end the start",
    **dict.fromkeys(("parsable", "test-only", "wait", "wrap"), "--follow or --dry-run"),
    **OF_CONTAINERS,
}
"""Options of sbatch that the launcher sets itself, and what to use instead."""
OWNED_OF_SRUN = {
    **{name: OWNED[name] for name in ("nodes", "ntasks", "ntasks-per-node", "output", "error", "open-mode")},
    "cpus-per-task": "--cpus-per-gpu",
    "export": "--env",
    **dict.fromkeys(("kill-on-bad-exit", "no-kill"), "nothing: a failed node must end the others"),
    **dict.fromkeys(("pty", "multi-prog", "unbuffered"), "nothing: the launcher needs it as it is"),
    **OF_CONTAINERS,
}
"""The same of srun."""
_SHORT = {"N": "nodes", "t": "time", "p": "partition", "A": "account", "q": "qos", "C": "constraint", "x": "exclude"}
_SHORT |= {"c": "cpus-per-task", "a": "array", "n": "ntasks", "o": "output", "e": "error", "W": "wait"}
_SHORT |= {"D": "chdir", "M": "clusters", "k": "no-kill"}


@dataclass(frozen=True)
class Gpus:
    """GPUs per node: ``4``, or ``a100:4`` of one type."""

    count: int = 0
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.count}" if self.kind else str(self.count)


@dataclass(frozen=True)
class Halving:
    """Successive halving: one of ``factor`` runs goes on after each rung."""

    factor: int = 3
    first_epoch: int = 1
    """The epoch of the first rung; each further one is ``factor`` times as late."""

    def __str__(self) -> str:
        return f"factor={self.factor},first_epoch={self.first_epoch}"


@dataclass(frozen=True)
class Draw:
    """How many points of a sweep's ranges to draw, and how."""

    method: str
    runs: int
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.method}:{self.runs}" + (f",seed={self.seed}" if self.seed else "")


def draw(text: str) -> Draw:
    """Read ``halton:16``, ``random:16`` or ``halton:16,seed=3``."""
    match = re.fullmatch(r"(halton|random):(\d+)(?:,\s*seed=(\d+))?", text.strip(), re.ASCII)
    if not match or int(match[2]) < 1:
        raise ArgumentTypeError(f"{text!r} must be halton:RUNS or random:RUNS, with ,seed=NUMBER if you like")
    return Draw(match[1], int(match[2]), int(match[3] or 0))


def halving(text: str) -> Halving:
    """Read ``factor=3,first_epoch=1``; a key may be left out."""
    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.strip().partition("=")
        if key not in ("factor", "first_epoch") or not value.isdecimal() or key in found:
            raise ArgumentTypeError(f"{text!r} must be factor=NUMBER,first_epoch=NUMBER; a key may be left out")
        found[key] = int(value)
    made = Halving(**found)
    if made.factor < 2 or made.first_epoch < 1:
        raise ArgumentTypeError(f"{text!r}: factor must be 2 or more, first_epoch 1 or more")
    return made


def gpus(text: str) -> Gpus:
    """Read ``4`` or ``a100:4``."""
    match = re.fullmatch(r"(?:([A-Za-z][\w.-]*):)?(\d+)", text)
    if not match or match[1] == "gpu":
        raise ArgumentTypeError(f"{text!r} must be a number of GPUs, or TYPE:NUMBER such as a100:4")
    return Gpus(int(match[2]), match[1] or "")


def natural(text: str) -> int:
    """Read a whole number, 0 or more."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} must be a whole number, 0 or more")
    return int(text)


def memory(text: str) -> str:
    """Read a memory size in the form of sbatch, such as ``64G``."""
    if not re.fullmatch(r"\d+[KMGT]?B?", text):
        raise ArgumentTypeError(f"{text!r} must be a memory size, such as 64G or 64000M")
    return text.removesuffix("B")


def megabytes(size: str) -> int:
    """Return the megabytes in a memory size of sbatch; a number without a unit has this unit.

    >>> [megabytes(size) for size in ("64G", "2048K", "500")]
    [65536, 2, 500]
    """
    number, unit = re.fullmatch(r"(\d+)([KMGT]?)", size).groups()  # type: ignore[union-attr]  # ``memory`` has read it
    return int(int(number) * {"K": 1 / 1024, "M": 1, "": 1, "G": 1024, "T": 1024**2}[unit])


def walltime(text: str) -> str:
    """Check a duration such as ``12:00:00`` and return it unchanged."""
    try:
        seconds_of(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def pair(text: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) or "\0" in value:
        raise ArgumentTypeError(f"{key!r} must be KEY=VALUE, where KEY is the name of an environment variable")
    return key, value


def mount(text: str) -> str:
    """Read ``SRC``, ``SRC:DST`` or ``SRC:DST:FLAGS`` of a mount. Return it with DST."""
    source, *rest = text.split(":")
    if not source.startswith("/") or len(rest) > 2 or (rest and not rest[0].startswith("/")):
        raise ArgumentTypeError(f"{text!r} must be SRC, SRC:DST or SRC:DST:FLAGS with absolute paths")
    if "," in text:
        raise ArgumentTypeError(f"{text!r} contains a comma; give --container-mounts once for each path")
    return text if rest else f"{source}:{source}"


def container_option(text: str) -> str:
    """Read an option of a container runtime, ``KEY`` or ``KEY=VALUE``. Return it with ``--``."""
    name = text.lstrip("-")
    if not re.fullmatch(r"[A-Za-z][\w-]+(=.*)?", name, re.ASCII):
        raise ArgumentTypeError(f"{text!r} must be KEY=VALUE, or KEY, where KEY is the long name of an option")
    if name.partition("=")[0] in ("container-image", "container-mounts", "bind", "mount"):
        raise ArgumentTypeError(f"{text!r}: use --container and --container-mounts")
    return f"--{name}"


def sbatch_option(text: str) -> tuple[str, str | bool]:
    """Read ``gres=gpu:8``. ``exclusive``, ``exclusive=`` and ``exclusive=true`` (in a YAML file) are options without value."""
    return _foreign_option(text, "--sbatch", OWNED)


def srun_option(text: str) -> tuple[str, str | bool]:
    """Read an option of srun in the same way."""
    return _foreign_option(text, "--srun", OWNED_OF_SRUN)


def _foreign_option(text: str, option: str, owned: dict[str, str]) -> tuple[str, str | bool]:
    given, _, value = text.lstrip("-").partition("=")
    key = given.replace("_", "-")
    if not re.fullmatch(r"[A-Za-z][\w-]*", key, re.ASCII):
        raise ArgumentTypeError(f"{text!r} must be KEY=VALUE, or KEY, where KEY is the name of an option")
    name = _SHORT.get(key, key)
    meant = [name] if name in owned else [name for name in owned if name.startswith(key)]  # SLURM takes `tim` for time
    if meant:
        raise ArgumentTypeError(f"{option} {given}: the launcher sets {meant[0]} itself; use {owned[meant[0]]}")
    if len(key) == 1:
        raise ArgumentTypeError(f"{option} {given}: use the long name of the option, without --")
    return key, True if value in ("", "true") else value
