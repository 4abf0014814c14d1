"""Values of the launcher's options."""

import re
from argparse import ArgumentTypeError
from collections.abc import Callable

import pytest

from launch.jobs.option_values import (
    Gpus,
    Halving,
    gpus,
    halving,
    memory,
    natural,
    pair,
    sbatch_option,
    srun_option,
    walltime,
)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (natural, "0", 0),
        (memory, "64G", "64G"),
        (memory, "64GB", "64G"),
        (walltime, "1-12:00:00", "1-12:00:00"),
        (pair, "A=b=c", ("A", "b=c")),
        (sbatch_option, "gres=gpu:8", ("gres", "gpu:8")),
        (sbatch_option, "exclusive", ("exclusive", True)),
        (sbatch_option, "exclusive=", ("exclusive", True)),
        (sbatch_option, "--exclusive=true", ("exclusive", True)),
        (sbatch_option, "time_min=10", ("time-min", "10")),
        (sbatch_option, "mem-per-cpu=1G", ("mem-per-cpu", "1G")),
        (srun_option, "mpi=none", ("mpi", "none")),
        (srun_option, "label", ("label", True)),
        (gpus, "4", Gpus(4)),
        (gpus, "0", Gpus(0)),
        (gpus, "a100:4", Gpus(4, "a100")),
        (gpus, "nvidia_a100-80gb:8", Gpus(8, "nvidia_a100-80gb")),
    ],
)
def test_what_is_read(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (natural, "-1", "'-1' must be a whole number, 0 or more"),
        (memory, "lots", "'lots' must be a memory size, such as 64G"),
        (walltime, "1 day", "1 day"),
        (pair, "A", "'A' must be KEY=VALUE"),
        (sbatch_option, "=1", "'=1' must be KEY=VALUE, or KEY"),
        (sbatch_option, "signal=USR1@10", "--sbatch signal: the launcher sets signal itself; use --signal-delay"),
        (sbatch_option, "no-requeue", "the launcher sets no-requeue itself; use --max-requeues=0"),
        (sbatch_option, "--time=5", "the launcher sets time itself; use --time"),
        (sbatch_option, "-t=5", "--sbatch t: the launcher sets time itself; use --time"),
        (sbatch_option, "tim=5", "--sbatch tim: the launcher sets time itself; use --time"),
        (sbatch_option, "ntasks_per_node=2", "the launcher sets ntasks-per-node itself; use --procs-per-node"),
        (sbatch_option, "cpus-per-task=2", "use --cpus-per-gpu"),
        (sbatch_option, "array=0-3", "use --sweep"),
        (sbatch_option, "nodes=3", "use --nodes"),
        (sbatch_option, "chdir=/tmp", "the launcher sets chdir itself; use cd"),
        (sbatch_option, "M=other", "use a login node of that cluster"),
        (sbatch_option, "no-kill", "a lost node must end the start"),
        (sbatch_option, "L=a:1", "--sbatch L: use the long name of the option, without --"),
        (srun_option, "kill-on-bad-exit=0", "--srun kill-on-bad-exit: the launcher sets"),
        (srun_option, "export=NONE", "use --env"),
        (srun_option, "=1", "'=1' must be KEY=VALUE, or KEY"),
        (gpus, "a100", "'a100' must be a number of GPUs, or TYPE:NUMBER such as a100:4"),
        (gpus, "gpu:a100:4", "must be a number of GPUs"),
        (gpus, "gpu:4", "must be a number of GPUs"),
        (gpus, "-1", "must be a number of GPUs"),
    ],
)
def test_what_is_refused(read: Callable[[str], object], text: str, words: str) -> None:
    with pytest.raises(ArgumentTypeError, match=re.escape(words)):
        read(text)


def test_halving_is_read_back() -> None:
    assert halving("factor=2") == Halving(2, 1)
    assert halving(str(Halving(4, 5))) == Halving(4, 5)
    for text in ("factor=1", "first_epoch=0", "rungs=3", "factor", "factor=2,factor=3", "factor=-2"):
        with pytest.raises(ArgumentTypeError):
            halving(text)
