"""A job is checked before it is submitted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dist_train.errors import ConfigError
from dist_train.run.result import Result, write_result
from launch.jobs import options
from launch.jobs.job import Job, Task, array_size, check_limits, check_not_running, config_of_job, is_done, make_job
from launch.jobs.job_options import JobOptions
from launch.runs.starts import record_submission
from launch.scheduler import cluster, scontrol
from launch.scheduler.cluster import Cluster, Offer
from tests.launch.commands import launch

OFFER = Offer("low", True, True, 7200, nodes=2, max_nodes=None, cpus=64, mem_mb=8000, gpus={"a100": 4})


def show(monkeypatch: pytest.MonkeyPatch, *offers: Offer, **more: Any) -> None:
    """Let SLURM offer this."""
    monkeypatch.setattr(cluster, "known", lambda _: Cluster(offers, **more))


@pytest.fixture
def make(make_config: Callable[..., Path]) -> Callable[..., Job]:
    config = make_config()

    def make(*args: str, sweep: str | None = None) -> Job:
        given = options.parse([f"--config={config}", *args])
        return make_job(given, [(None, []), ("second", ["optim.lr=0.2"])] if sweep else [(None, [])], sweep)

    return make


@pytest.mark.parametrize(
    ("args", "gpus_of_the_partition", "expected"),
    [
        ([], None, (0, 1, 8)),
        ([], 4, (4, 4, 32)),
        (["--gpus-per-node=2", "--cpus-per-gpu=3"], 4, (2, 2, 6)),
        (["--procs-per-node=2"], 4, (4, 2, 16)),
        (["--cluster=local"], 4, (0, 1, 8)),
    ],
)
def test_what_the_user_left_open(
    make: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    gpus_of_the_partition: int | None,
    expected: tuple[int, int, int],
) -> None:
    if gpus_of_the_partition is not None:
        show(monkeypatch, replace(OFFER, gpus={"": gpus_of_the_partition}))
    job = make(*args)
    assert (job.gpus, job.procs, job.cpus) == expected
    assert Task("c.yaml", [], job.options).procs == job.procs


def test_a_sweep_names_its_runs_and_their_group(make: Callable[..., Job]) -> None:
    job = make("--nodes=2", sweep="both")
    assert (job.name, job.world_size, job.home.parent.name) == ("both", 2, "both")
    assert [run.cfg.run.name for run in job.runs] == ["tiny", "second"]
    assert {run.cfg.log.wandb.group for run in job.runs} == {"both"}
    assert "second: optim.lr=0.2 run.name=second log.wandb.group=both" in job.describe()


def test_an_unknown_partition_is_refused(make: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, replace(OFFER, partition="high"), OFFER)
    with pytest.raises(ConfigError, match=r"--partition \(lo\) does not exist here; use one of: high, low"):
        make("--partition=low,lo")


def test_a_job_under_way_and_a_run_that_is_done(make: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = make().runs
    check_not_running(run)
    record_submission(run.folder, "7")
    monkeypatch.setattr(scontrol, "show_job", lambda _: scontrol.Job("PENDING"))
    with pytest.raises(ConfigError, match=r"already has job 7 \(PENDING\)"):
        check_not_running(run)
    assert not is_done(run)
    write_result(run.folder, Result(status="done"))
    assert is_done(run)


def test_the_error_of_a_broken_check_is_its_last_line(make_config: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise ImportError('libcudart.so.13 is not here')\n")
    done = launch("--config", str(make_config()), "--dry-run", pythonpath=str(tmp_path / "broken"))
    assert done.returncode == 2
    assert done.stderr.endswith("failed: ImportError: libcudart.so.13 is not here\n")


def test_a_task_without_a_number_of_workers_has_one() -> None:
    assert Task("c.yaml", [], JobOptions()).procs == 1


def test_what_can_never_start_is_refused(make: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, OFFER)
    with pytest.raises(ConfigError) as refusal:
        check_limits(make("--time=3:00:00", "--nodes=1", "--gpus-per-node=h100:2", "--cpus-per-gpu=1"))
    time, gpus = str(refusal.value).splitlines()
    assert time.startswith(
        "--time (3:00:00) is above the limit of partition low; use at most 2:00:00: SLURM would never"
    )
    assert gpus.startswith(
        "--gpus-per-node (h100:2) is more than a node of partition low has: a100:4: SLURM would never"
    )
    assert check_limits(make("--time=2:00:00", "--gpus-per-node=a100:2", "--cpus-per-gpu=1")) == []


@pytest.mark.parametrize("option", ["--no-check", "--qos=long"])
def test_where_a_limit_may_be_another_it_is_a_warning(
    make: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    show(monkeypatch, replace(OFFER, up=False))
    above, down = check_limits(make("--time=3:00:00", "--cpus-per-gpu=1", option))
    assert above.endswith("use at most 2:00:00: the job may wait for ever")
    assert down == "partition low is down: the job waits until it is up"


def test_a_silent_slurm_is_a_warning(make: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, silent=True)
    assert check_limits(make()) == ["SLURM does not answer: the GPUs of its nodes and its limits are not known"]


def test_a_long_sweep_needs_several_arrays(make: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    assert array_size(make(sweep="both")) == (2, 1)
    show(monkeypatch, OFFER, max_array=0)  # a site without arrays
    assert array_size(make(sweep="both")) == (1, 2)
    assert array_size(make("--cluster=local", sweep="both")) == (2, 1)
    show(monkeypatch, OFFER, max_array=1)
    assert array_size(make(sweep="both")) == (1, 2)
    with pytest.raises(ConfigError, match=r"--max-parallel \(1\) must be at least 2: the cluster allows 1 runs in one"):
        check_limits(make("--max-parallel=1", "--cpus-per-gpu=1", "--time=1:00:00", sweep="both"))


@pytest.mark.parametrize(
    ("args", "found", "words"),
    [
        ([], None, "no GPU (sinfo gives no answer on this machine; set --gpus-per-node)"),
        (
            [],
            0,
            "no GPU (sinfo lists none in the default partition; choose another --partition, or set --gpus-per-node)",
        ),
        (["--partition=cpu"], 0, "no GPU (sinfo lists none in partition cpu; choose"),
        (["--gpus-per-node=0"], 4, "no GPU and 8 CPU(s)"),
        (["--cluster=local"], None, "no GPU and 8 CPU(s)"),
        ([], 4, "; 4 GPU(s)"),
        (["--gpus-per-node=a100:4"], None, "; 4 a100 GPU(s)"),
    ],
)
def test_it_says_why_there_is_no_gpu_and_which_python_will_run(
    make: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, args: list[str], found: int | None, words: str
) -> None:
    offers = [] if found is None else [replace(OFFER, gpus={"": found}), replace(OFFER, partition="cpu", gpus={})]
    show(monkeypatch, *offers)
    text = make(*args, "--python=/opt/torch/bin/python").describe()
    assert words in text
    assert ("Python on the nodes: /opt/torch/bin/python" in text) == ("--cluster=local" not in args)


def test_a_trial_is_for_a_terminal(make: Callable[..., Job], tmp_path: Path) -> None:
    for place in ("local", "slurm"):
        with pytest.raises(
            ConfigError, match=r"type `torchrun --nproc_per_node=N -m dist_train --config .*config.yaml"
        ):
            make(f"--cluster={place}", "train.fast_dev_run=true")
    with pytest.raises(ConfigError, match=r"`train\.fast_dev_run`"):
        config_of_job(str(tmp_path / "config.yaml"), ["train.fast_dev_run=2"])
