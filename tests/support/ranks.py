"""Real ranks for tests: processes of one process group, forked from a server that has imported torch."""

import multiprocessing
import os
import signal
import socket
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import IO, Any

from dist_train.system.processes import leave_at_once

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.preloaded", "tests.support.ranks"])

OF_A_STORE = ("AWS_", "STORAGE_EMULATOR_HOST", "FSSPEC_")
"""Beginnings of variables that lead to a test's server: the server that ranks are forked from keeps those of an earlier test."""


class RankFailure(AssertionError):
    """A rank raised, or died."""


def run_ranks(world_size: int, function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
    """Call ``function(*args, **kwargs)`` in ``world_size`` processes that look as if torchrun had started them.

    At world size 1 the process looks as plain ``python`` would start it.

    Returns:
        What each rank returned.
    """
    return collect(start_ranks(world_size, function, *args, **kwargs))


Ranks = list[tuple[Any, Connection, IO[str]]]


def start_ranks(world_size: int, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Ranks:
    """Start the ranks and return at once: processes and the ends of their pipes."""
    port = free_port()
    ranks = []
    for rank in range(world_size):
        ours, theirs = _context.Pipe(duplex=False)
        environment = {name: value for name, value in os.environ.items() if name.startswith(OF_A_STORE)}
        if world_size > 1:
            environment |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world_size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        output = tempfile.NamedTemporaryFile("w+", suffix=f".rank{rank}")  # noqa: SIM115 - closed by collect()
        process = _context.Process(target=_rank, args=(theirs, output.name, environment, function, args, kwargs))
        process.start()
        theirs.close()
        ranks.append((process, ours, output))
    return ranks


def collect(ranks: Ranks, timeout_s: float = 120, quiet: bool = False) -> list[Any]:
    """Wait for all ranks, print what they printed unless ``quiet``, raise if one failed."""
    results, faults = [], []
    for number, (process, pipe, _) in enumerate(ranks):
        try:
            good, value = pipe.recv() if pipe.poll(timeout_s) else (False, "timed out")
        except EOFError:
            process.join(10)
            good, value = False, f"died with {process.exitcode}"
        results.append(value)
        if not good:
            faults.append(f"rank {number}: {value}")
    for process, pipe, output in ranks:
        pipe.close()
        process.join(20)
        if process.is_alive():
            process.kill()
        if not quiet:
            print(output.read())
        output.close()
    if faults:
        raise RankFailure("\n".join(faults))
    return results


def _rank(pipe: Connection, output: str, environment: dict[str, str], function: Any, args: Any, kwargs: Any) -> None:
    """The life of a rank. It prints to a file: the server it was forked from has the terminal of another test."""
    with open(output, "a") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    os.environ.update(environment, OMP_NUM_THREADS="1")
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # tests may run under nohup
    multiprocessing.set_start_method("fork", force=True)  # as in a process that torchrun starts
    import torch

    torch.set_num_threads(1)
    try:
        pipe.send((True, function(*args, **kwargs)))
    except BaseException:  # noqa: BLE001 - told to the parent, which raises
        pipe.send((False, traceback.format_exc()))
    leave_at_once(0)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
