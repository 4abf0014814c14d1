"""How this process was started, as environment variables tell: by torchrun, by srun or mpirun, alone, until when.

Other programs set these variables too. They may be missing, malformed, or left over from a job that has ended. Imports no torch.
"""

import logging
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from dist_train.errors import ConfigError

log = logging.getLogger(__name__)

JOB_END = "SLURM_JOB_END_TIME"
"""When SLURM ends the job, as Unix time: set by SLURM 23.02 and later, and by our launcher."""


@dataclass(frozen=True)
class Starter:
    """A program that starts several tasks, and the variables by which a task knows it.

    Attributes:
        rank: set in each task.
        sizes: the number of tasks, in the first of these that is set.
        one: the command that starts one task.
    """

    name: str
    rank: str
    sizes: tuple[str, ...]
    one: str


STARTERS = (
    Starter("srun", "SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"), "srun --ntasks=1"),
    Starter("mpirun (Open MPI)", "OMPI_COMM_WORLD_RANK", ("OMPI_COMM_WORLD_SIZE",), "mpirun -n 1"),
    Starter("mpirun (MVAPICH)", "MV2_COMM_WORLD_RANK", ("MV2_COMM_WORLD_SIZE",), "mpirun -n 1"),
    Starter("mpiexec (MPICH, Intel MPI)", "PMI_RANK", ("PMI_SIZE",), "mpiexec -n 1"),
    Starter("mpiexec (PALS)", "PALS_RANKID", ("PALS_NRANKS",), "mpiexec -n 1"),
    Starter("jsrun", "JSM_NAMESPACE_RANK", ("JSM_NAMESPACE_SIZE",), "jsrun -n 1"),
    Starter("flux run", "FLUX_TASK_RANK", ("FLUX_JOB_SIZE",), "flux run -n 1"),
)

OF_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")


def whole_number(name: str, default: int) -> int:
    """Return the whole number in an environment variable; ``default`` if it is not set, or holds something else."""
    number = _number(name)
    return default if number is None else number


def check_start() -> None:
    """Refuse a start that would train something else than the user wants, before torch is imported.

    Raises:
        ConfigError: srun or mpirun started several tasks without torchrun, or torchrun's variables are incomplete.
    """
    if "RANK" in os.environ or "WORLD_SIZE" in os.environ:
        if fault := _fault_of_ranks():
            error = ConfigError(
                f"{fault}; torchrun sets it: start with `{_torchrun(2)}`, or, for one process, `unset RANK WORLD_SIZE LOCAL_RANK`"
            )
            error.of_one_rank = True
            raise error
        return
    for starter in STARTERS:
        size = _size(starter)
        if size is not None and whole_number(size, 1) > 1 and not _outside_of_a_step(starter):
            raise ConfigError(
                f"{starter.name} started {os.environ[size]} tasks ({size}), of which each would train alone: ranks need "
                f"{'`launch`, once' if _launches() else 'torchrun, once per node'}: `{starter.one} "
                f"{_torchrun(whole_number(size, 1))}`; `dist-train slurm` submits to SLURM, also on several nodes. If each "
                f"task is to work by itself, or the variable is left over from another job, `unset {starter.rank}`"
            )


def idle_tasks() -> str:
    """Return a warning if the SLURM job has several tasks, and this start uses one of them; else an empty string."""
    if "RANK" in os.environ or whole_number("SLURM_NTASKS", 1) < 2 or not _outside_of_a_step(STARTERS[0]):
        return ""
    count = whole_number("SLURM_NTASKS", 1)
    return (
        f"the SLURM job has {count} tasks (SLURM_NTASKS), and this start trains in one process; to use all of them: "
        f"`{_torchrun(count)}`, or `dist-train slurm`"
    )


def seconds_of_job(now: float) -> int | None:
    """Return the seconds until SLURM ends this job; None if there is no job.

    A variable that makes no sense is ignored with a warning: one from a job that has ended would stop each start after
    its first step.

    Args:
        now: the Unix time in seconds.
    """
    text = os.environ.get(JOB_END)
    if text is None:
        return None
    try:
        seconds = int(float(text) - now)
    except (ValueError, OverflowError):  # OverflowError: inf
        log.warning("%s (%s) is not a time in seconds, and is ignored", JOB_END, text)
        return None
    if seconds <= 0:
        log.warning("%s (%s) lies in the past, and is ignored: it is left over from another job", JOB_END, text)
        return None
    return seconds


def _number(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    return int(text) if text.isascii() and text.removeprefix("-").isdecimal() and len(text) < 20 else None


def _fault_of_ranks() -> str:
    """Return what is wrong with torchrun's variables; an empty string if nothing is."""
    for name in OF_TORCHRUN:
        if name in os.environ and (_number(name) is None or whole_number(name, 0) < 0):
            return f"the environment variable {name} ({os.environ[name]!r}) must be a whole number"
    rank, world_size = _number("RANK"), _number("WORLD_SIZE")
    if rank is None or world_size is None:
        there, missing = ("WORLD_SIZE", "RANK") if rank is None else ("RANK", "WORLD_SIZE")
        return f"the environment variable {there} ({os.environ[there]}) is set, but {missing} is not"
    if rank >= world_size:
        return f"the environment variable RANK ({rank}) must be less than WORLD_SIZE ({world_size})"
    missing_address = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if world_size > 1 and missing_address:
        return f"the environment variable WORLD_SIZE ({world_size}) is set without {' and '.join(missing_address)}"
    if whole_number("MASTER_PORT", 1) > 65535:
        return f"the environment variable MASTER_PORT ({os.environ['MASTER_PORT']}) must be a port, at most 65535"
    return ""


def _size(starter: Starter) -> str | None:
    """Return the name of the variable with the number of tasks, if ``starter`` started this process."""
    if starter.rank not in os.environ:
        return None
    return next((name for name in starter.sizes if _number(name) is not None), None)


def _outside_of_a_step(starter: Starter) -> bool:
    """Return whether this is a batch script or the shell of an allocation, where only SLURM's first task runs."""
    steps = ("SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS")
    return (
        starter.name == "srun" and not any(name in os.environ for name in steps) and not whole_number(starter.rank, 0)
    )


def _launches() -> bool:
    """Return whether this command is ``launch``, which starts ranks itself."""
    return sys.argv[1:2] == ["launch"]


def _torchrun(ranks: int) -> str:
    """Return this command, started by torchrun; ``launch`` as it is."""
    called = sys.orig_argv[1:]
    if Path(sys.argv[0]).name == "dist-train":
        called = ["-m", "dist_train", *sys.argv[1:]]
    elif "-m" in called:
        called = called[called.index("-m") :]
    starts = ["python"] if _launches() else ["torchrun", f"--nproc_per_node={ranks}"]
    return shlex.join([*starts, *called])
