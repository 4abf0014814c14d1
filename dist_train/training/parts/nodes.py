"""The preflight of a run: what follows from what it has measured."""

import logging
import os
from dataclasses import asdict

from dist_train.distributed import preflight
from dist_train.distributed.group import Dist
from dist_train.errors import NodeError
from dist_train.run.folder import RunDir
from dist_train.run.result import EXCHANGE, START_NAME, now
from dist_train.system.files import write_json

log = logging.getLogger(__name__)


def check_nodes(group: Dist, run: RunDir) -> None:
    """Measure all ranks, print a table and write ``preflight.json``. Every rank must call it.

    A slow node ends the start where a supervisor can ask for another one, and is a warning elsewhere.

    Raises:
        NodeError: a node computes wrongly; or one is slow, and there is a supervisor that can exchange it.
    """
    ranks = preflight.measure(group, run.path)
    wrong, slow = preflight.faults(ranks), preflight.slow_nodes(ranks)
    named = slow | wrong
    # All ranks decide alike: the variable of rank 0 counts.
    exchange = group.from_main(lambda: _report(run, ranks, named))
    if not named:
        return
    why = "; ".join(f"{node}: {reason}" for node, reason in named.items())
    if wrong or exchange:
        raise NodeError(f"preflight: {why}")
    log.warning("preflight: %s. All ranks wait for the slowest one in every step", why)


def _report(run: RunDir, ranks: list[preflight.Figures], named: dict[str, str]) -> bool:
    """Print and write the figures. Return whether a supervisor can exchange nodes."""
    log.info("preflight:\n%s", preflight.table(ranks))
    figures = [asdict(rank) for rank in ranks]
    write_json(run.preflight, {"start": os.environ.get(START_NAME), "time": now(), "named": named, "ranks": figures})
    return os.environ.get(EXCHANGE) == "1"
