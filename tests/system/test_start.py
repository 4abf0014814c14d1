"""How a process was started, as its environment says: by torchrun, by srun or mpirun, or alone; stale or malformed."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from dist_train.system.start import STARTERS, check_start, idle_tasks, seconds_of_job, whole_number

PREFIXES = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "OMPI_", "PMI_", "MV2_", "PALS_", "JSM_", "FLUX_")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)


def _set(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    for word in words.split():
        monkeypatch.setenv(*word.split("=", 1))


@pytest.mark.parametrize(
    "words",
    [
        "",
        "RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=1",
        "RANK=0 WORLD_SIZE=1",
        "RANK=1 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=1 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2",
        "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=4",
        "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2(x3)",
        "SLURM_STEP_NUM_TASKS=4",
        "SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_JOB_ID=7",
        "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1",
        "OMPI_COMM_WORLD_RANK=x OMPI_COMM_WORLD_SIZE=",
        "PMI_RANK=0",
        "LOCAL_RANK=3",
    ],
)
def test_starts_that_are_fine(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    _set(monkeypatch, words)
    check_start()


def test_several_tasks_need_one_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/dist-train", "launch", "--nproc-per-node=2", "evaluate", "run"])
    _set(monkeypatch, "SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2")
    command = "srun --ntasks=1 python -m dist_train launch --nproc-per-node=2 evaluate run"
    with pytest.raises(ConfigError, match=f"ranks need `launch`, once: `{command}`;"):
        check_start()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_NTASKS=2", r"srun started 2 tasks \(SLURM_STEP_NUM_TASKS\)"),
        ("SLURM_PROCID=1 SLURM_NTASKS=2", r"srun started 2 tasks \(SLURM_NTASKS\)"),
        ("SLURM_PROCID=0 SLURM_NTASKS=2 SLURM_STEP_ID=0", r"`srun --ntasks=1 torchrun --nproc_per_node=2 "),
        ("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=3", r"`mpirun -n 1 torchrun --nproc_per_node=3 "),
        ("PMI_RANK=0 PMI_SIZE=3", "`unset PMI_RANK`"),
        ("MV2_COMM_WORLD_RANK=0 MV2_COMM_WORLD_SIZE=3", "mpirun"),
        ("PALS_RANKID=0 PALS_NRANKS=3", "mpiexec"),
        ("JSM_NAMESPACE_RANK=0 JSM_NAMESPACE_SIZE=3", "jsrun"),
        ("FLUX_TASK_RANK=0 FLUX_JOB_SIZE=3", "flux run"),
    ],
)
def test_several_tasks_need_torchrun(monkeypatch: pytest.MonkeyPatch, words: str, told: str) -> None:
    _set(monkeypatch, words)
    with pytest.raises(ConfigError, match=told):
        check_start()
    for starter in STARTERS:
        monkeypatch.delenv(starter.rank, raising=False)
    check_start()  # the way out that the message names


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("RANK=0", "RANK (0) is set, but WORLD_SIZE is not"),
        ("WORLD_SIZE=4", "WORLD_SIZE (4) is set, but RANK is not"),
        ("RANK=x WORLD_SIZE=2", "RANK ('x') must be a whole number"),
        ("RANK=0 WORLD_SIZE=", "WORLD_SIZE ('') must be a whole number"),
        ("RANK=-1 WORLD_SIZE=2", "RANK ('-1') must be a whole number"),
        ("RANK=1.0 WORLD_SIZE=2", "RANK ('1.0') must be a whole number"),
        ("RANK=2 WORLD_SIZE=2", "RANK (2) must be less than WORLD_SIZE (2)"),
        ("RANK=0 WORLD_SIZE=0", "RANK (0) must be less than WORLD_SIZE (0)"),
        ("RANK=0 WORLD_SIZE=2 LOCAL_RANK=a", "LOCAL_RANK ('a') must be a whole number"),
        ("RANK=0 WORLD_SIZE=2 LOCAL_WORLD_SIZE=a", "LOCAL_WORLD_SIZE ('a') must be a whole number"),
        ("RANK=0 WORLD_SIZE=2", "WORLD_SIZE (2) is set without MASTER_ADDR and MASTER_PORT"),
        ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=http", "MASTER_PORT ('http') must be a whole number"),
        ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=99999", "MASTER_PORT (99999) must be a port, at most 65535"),
    ],
)
def test_what_torchrun_never_sets_is_refused(monkeypatch: pytest.MonkeyPatch, words: str, told: str) -> None:
    _set(monkeypatch, words)
    with pytest.raises(ConfigError) as refused:
        check_start()
    assert str(refused.value).startswith(f"the environment variable {told}; torchrun sets it: start with `torchrun ")
    assert refused.value.of_one_rank, "every rank prints it: none may be rank 0"


@pytest.mark.parametrize(
    ("text", "seconds", "told"),
    [
        (None, None, ""),
        ("1100", 100, ""),
        ("1100.5", 100, ""),
        ("900", None, "SLURM_JOB_END_TIME (900) lies in the past, and is ignored"),
        ("0", None, "lies in the past"),
        ("-5", None, "lies in the past"),
        ("", None, "is not a time in seconds"),
        ("Unknown", None, "SLURM_JOB_END_TIME (Unknown) is not a time in seconds"),
        ("nan", None, "is not a time in seconds"),
        ("inf", None, "is not a time in seconds"),
    ],
)
def test_the_end_of_the_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str | None, seconds: int | None, told: str
) -> None:
    if text is not None:
        monkeypatch.setenv("SLURM_JOB_END_TIME", text)
    with caplog.at_level(logging.WARNING, "dist_train"):
        assert seconds_of_job(now=1000) == seconds
    assert told in caplog.text
    assert bool(told) == bool(caplog.text)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", ""),
        ("SLURM_NTASKS=1 SLURM_PROCID=0", ""),
        (
            "SLURM_NTASKS=4 SLURM_PROCID=0",
            "the SLURM job has 4 tasks (SLURM_NTASKS), and this start trains in one process",
        ),
        ("SLURM_NTASKS=4", "`torchrun --nproc_per_node=4 "),
        ("SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1", ""),
        ("SLURM_NTASKS=4 RANK=0 WORLD_SIZE=4", ""),
        ("SLURM_NTASKS=four", ""),
    ],
)
def test_idle_tasks_of_an_allocation_are_said(monkeypatch: pytest.MonkeyPatch, words: str, told: str) -> None:
    _set(monkeypatch, words)
    assert told in idle_tasks()
    assert bool(told) == bool(idle_tasks())


def test_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, "A=7 B=-2 C=1.5 D= E=x F=9999999999999999999999")
    assert [whole_number(name, 1) for name in "ABCDEFG"] == [7, -2, 1, 1, 1, 1, 1]


def test_the_refusal_comes_before_torch_and_names_the_command(tmp_path: Path) -> None:
    """As ``srun --ntasks=2 python -m dist_train ...`` starts its second task."""
    (tmp_path / "c.yaml").write_text(
        "{run: {name: x}, model: {name: test_vit}, data: {root: .}, optim: {lr: 0.1}, train: {global_batch: 4}}"
    )
    code = "import sys, runpy; sys.modules['torch'] = None; runpy.run_module('dist_train', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, "--config", "c.yaml"],
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parents[2]), "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: srun started 2 tasks (SLURM_STEP_NUM_TASKS), of which each would train alone")
    assert list(tmp_path.iterdir()) == [tmp_path / "c.yaml"], "nothing was written"
