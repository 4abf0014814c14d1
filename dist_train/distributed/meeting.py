"""Where the ranks find each other, and how they exchange tensors: the store and the backend of the process group."""

import datetime
import itertools
import os
import time
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist

from dist_train.errors import CommError
from dist_train.system.machine.clock import awake_s
from dist_train.system.machine.network import GLOO

PATIENCE_S = 120.0
"""How long ranks wait for the last one at least: each imports torch at the speed of its own disk."""

LOOK_FIRST_S, LOOK_EVERY_S = 0.005, 0.1
"""The first pause between two looks, and the longest: each is half as long again as the one before."""

_meetings = itertools.count()


def backend_of(device: torch.device, timeout: datetime.timedelta) -> dict[str, Any]:
    """Return the arguments of ``init_process_group`` for ranks that compute on ``device``: NCCL for GPUs, else gloo.

    NCCL gets a high-priority stream: its kernels start as soon as gradients are computed, beside the kernels of the backward
    pass, and do not wait for the kernels that are queued already.
    """
    if device.type != "cuda":
        return {"backend": "gloo", "timeout": timeout}
    # Later than the control group, whose timeout raises an error; NCCL's timeout aborts the process.
    later = timeout + datetime.timedelta(seconds=60)
    options = dist.ProcessGroupNCCL.Options(is_high_priority_stream=True)
    options._timeout = later  # torch warns where it differs
    return {"backend": "nccl", "timeout": later, "device_id": device, "pg_options": options}


def meeting_place(timeout: datetime.timedelta) -> dict[str, Any]:
    """Return the arguments of ``init_process_group`` with which ranks find each other.

    They use one store for the whole process, with a key prefix for each restart and each training of a program. The agent
    of torchrun uses one store for all restarts: without the prefix, restarted ranks (``--max-restarts``) read the addresses
    of dead ranks and fail. On several nodes, each agent counts restarts on its own, so a prefix cannot work there: torchrun
    needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, which our launcher sets.
    """
    here = os.environ
    if not {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"} <= here.keys():
        return {}  # torch says best what is missing
    lent = here.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    serves = not lent and here["RANK"] == "0"
    patience = max(timeout, datetime.timedelta(seconds=PATIENCE_S))
    store = _store(here["MASTER_ADDR"], int(here["MASTER_PORT"]), serves, patience)
    restart = here["TORCHELASTIC_RESTART_COUNT"] if lent and here.get("GROUP_WORLD_SIZE") == "1" else "any"
    own = dist.PrefixStore(f"restart {restart}, meeting {next(_meetings)}", store)  # type: ignore[attr-defined]
    _wait_for_all(own, int(here["WORLD_SIZE"]), patience.total_seconds())
    return {"store": own, "rank": int(here["RANK"]), "world_size": int(here["WORLD_SIZE"])}


def _wait_for_all(store: Any, world_size: int, patience_s: float) -> None:
    deadline = awake_s() + patience_s
    arrived = store.add("arrived", 1)
    pause_s = LOOK_FIRST_S
    while arrived < world_size:
        if awake_s() > deadline:
            raise CommError(_not_met(f"{arrived} of {world_size} ranks came within {patience_s:g} s"))
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, LOOK_EVERY_S)
        arrived = store.add("arrived", 0)


@lru_cache(maxsize=1)
def _store(address: str, port: int, serves: bool, timeout: datetime.timedelta) -> Any:
    """Return the store, which stays until the process ends: an early rank of the next training needs its server."""
    return dist.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=serves, timeout=timeout, wait_for_workers=False, multi_tenant=True
    )


def not_met(error: Exception) -> CommError:
    """Return the error of a rank that did not find the others."""
    return error if isinstance(error, CommError) else CommError(_not_met(f"torch says: {error}"))


def _not_met(reason: str) -> str:
    here = os.environ
    where = f"{here.get('MASTER_ADDR', '?')}:{here.get('MASTER_PORT', '?')}"
    interface = f", on the network interface {here[GLOO]} ({GLOO})" if GLOO in here else ""
    return (
        f"rank {here.get('RANK', '?')} could not join the other ranks at {where}{interface}: see what they print; if no torchrun "
        f"runs, `unset RANK WORLD_SIZE`. {reason}"
    )
