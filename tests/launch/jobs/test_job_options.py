"""Every option reaches the job, and every default is in one place."""

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launch.jobs import options
from launch.jobs.job_options import (
    BEHAVIOUR,
    RESOURCES,
    SUPERVISOR,
    JobOptions,
    add_options,
    flag,
    flags,
    without_effect,
)
from launch.submit import LIMITS
from tests.launch.commands import ROOT, dry_run

IN_SCRIPT = {
    "nodes": ("3", "#SBATCH --nodes=3"),
    "gpus_per_node": ("a100:4", "#SBATCH --gpus-per-node=a100:4"),
    "procs_per_node": ("4", "--nproc-per-node=4"),
    "cpus_per_gpu": ("5", "#SBATCH --cpus-per-task=20"),
    "mem": ("3G", "#SBATCH --mem=3G"),
    "time": ("3:21:00", "#SBATCH --time=201"),
    "sbatch": ("licenses=scratch:1", "#SBATCH --licenses=scratch:1"),
    "srun": ("mpi=none", " --mpi=none "),
    "signal_delay": ("77", "#SBATCH --signal=USR2@77"),
    "max_requeues": ("7", "-m launch.last_resort $status --max-requeues=7"),
    "max_restarts": ("6", "--max-restarts=6"),
    "env": ("A=b c", "# --env: A"),
    "setup": ("module load cuda", "module load cuda"),
    "python": ("apptainer exec i.sif python", "apptainer exec i.sif python -u -m submitit"),
}
"""A value of each option, and what the dry run then shows; by default what sbatch gets under the option's own name."""


def resource_options() -> list[str]:
    groups = [group for group in options.parser()._action_groups if group.title in (RESOURCES, BEHAVIOUR)]
    return [action.dest for group in groups for action in group._group_actions]


def test_every_resource_option_of_the_parser_is_in_the_script(make_config: Callable[..., Path]) -> None:
    names = resource_options()
    assert {"nodes", "reservation", "signal_delay"} <= set(names)
    shown = {name: IN_SCRIPT.get(name, (f"my-{name}", f"#SBATCH {flag(name)}=my-{name}")) for name in names}
    given = [f"{flag(name)}={value}" for name, (value, _) in shown.items()]
    output = dry_run(make_config(), *given, "train.global_batch=12")
    assert [name for name, (_, line) in shown.items() if line not in output] == []


def test_a_variable_of_sbatch_is_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_RESERVATION", "maintenance")
    assert JobOptions().for_sbatch() == {"reservation": "maintenance"}
    assert options.parse(["--reservation", "mine"]).for_sbatch() == {"reservation": "mine"}


def test_flags_are_read_back() -> None:
    wanted = replace(JobOptions(), procs_per_node=3, max_requeues=0, signal_delay=7)
    parser = argparse.ArgumentParser()
    add_options(parser, SUPERVISOR)
    assert JobOptions.parsed(parser.parse_args(flags(wanted, SUPERVISOR))) == wanted
    assert JobOptions.parsed(parser.parse_args([])) == JobOptions()


def test_variables_of_sbatch_that_no_option_reads() -> None:
    assert without_effect(["SBATCH_WCKEY", "SBATCH_PARTITION", "PATH", "SBATCH_EXPORT"]) == [
        "SBATCH_EXPORT",
        "SBATCH_WCKEY",
    ]


def test_a_default_of_a_list_is_not_shared() -> None:
    assert options.parse(["--setup", "a"]).setup == ("a",)
    assert options.parse(["--setup", "b"]).setup == ("b",)


@pytest.mark.parametrize("name", ["train", "array"])
def test_the_templates_have_the_same_defaults(name: str) -> None:
    text, default = (ROOT / "slurm" / f"{name}.sbatch").read_text(), JobOptions()
    sbatch = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", text, re.MULTILINE))
    assert int(sbatch["nodes"]) == default.nodes
    assert int(sbatch["cpus-per-task"]) == default.cpus_per_gpu
    assert sbatch["time"] == default.time
    assert sbatch["propagate"] == LIMITS
    assert sbatch["signal"] == f"USR2@{default.signal_delay}"
    (supervisor,) = re.findall(r"^options=\((.*)\)$", text, re.MULTILINE)
    assert sorted(supervisor.split()) == sorted(flags(default, SUPERVISOR))
    assert re.search(rf"-m launch.last_resort \$\? --max-requeues={default.max_requeues} ", text)
