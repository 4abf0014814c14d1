"""Log lines: plain from rank 0, warnings with their rank from the others."""

import logging
import sys


def log_to_console(rank: int) -> None:
    """Send the log of this process to stdout."""
    handler = logging.StreamHandler(sys.stdout)
    prefix = "" if rank == 0 else f"[rank {rank}] "
    handler.setFormatter(logging.Formatter(f"%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
    root = logging.getLogger("dist_train")
    root.handlers = [handler]
    root.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    root.propagate = False
