"""Ranks that do not meet say where they waited, and why that may be."""

import os
import time

import pytest
import torch

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed import meeting
from dist_train.distributed.group import joined
from dist_train.errors import CommError, ConfigError
from tests.support.ranks import free_port, run_ranks


def _alone_of_two(environment: dict[str, str]) -> str:
    """A rank whose variables are left over from another start: no other rank comes."""
    os.environ |= {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", **environment}
    meeting.PATIENCE_S = 1.5
    with pytest.raises(CommError) as failure, joined(DistributedConfig(timeout_s=1)):
        pass
    return str(failure.value)


@pytest.mark.parametrize(
    ("environment", "interface"),
    [({}, ""), ({"GLOO_SOCKET_IFNAME": "lo"}, ", on the network interface lo (GLOO_SOCKET_IFNAME)")],
)
def test_left_over_variables_of_torchrun_are_named(environment: dict[str, str], interface: str) -> None:
    port = free_port()
    (words,) = run_ranks(1, _alone_of_two, {"MASTER_PORT": str(port), **environment})
    assert words.startswith(
        f"rank 0 could not join the other ranks at 127.0.0.1:{port}{interface}: see what they print"
    )
    assert "if no torchrun runs, `unset RANK WORLD_SIZE`. 1 of 2 ranks came within 1.5 s" in words


def _come_late(timeout_s: int) -> int:
    if os.environ["RANK"] == "1":
        time.sleep(3 * timeout_s)  # as an import of torch from a slow disk
    with joined(DistributedConfig(timeout_s=timeout_s)) as group:
        return int(group.sum(torch.ones(())).item())


def test_a_rank_may_take_longer_than_the_timeout_to_come() -> None:
    assert run_ranks(2, _come_late, 1) == [2, 2]


def _meet(environment: dict[str, str]) -> str:
    os.environ |= environment
    try:
        with joined(DistributedConfig(timeout_s=30)) as group:
            return f"{group.sum(torch.ones(())).item()} ranks"
    except ConfigError as error:
        return str(error)


def test_a_wrong_interface_is_not_called_a_lost_rank() -> None:
    assert run_ranks(2, _meet, {"GLOO_SOCKET_IFNAME": "lo"}) == ["2.0 ranks"] * 2
    for words in run_ranks(2, _meet, {"GLOO_SOCKET_IFNAME": "eth99"}):
        assert "GLOO_SOCKET_IFNAME: the network interface eth99 does not exist" in words


def test_every_command_with_ranks_refuses_tasks_without_torchrun() -> None:
    """Training, the Python API and evaluation join the ranks in the same way."""
    (words,) = run_ranks(1, _meet, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"})
    assert words.startswith("srun started 2 tasks (SLURM_STEP_NUM_TASKS)")
