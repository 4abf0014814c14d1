"""Ranks that are forked after torch was imported: 64 of them fit into the memory of a small machine."""

import os
from collections.abc import Callable

from dist_train.system.processes import leave_at_once


def said_by_rank_0(ranks: int, rank: Callable[[int, int, int], None]) -> str:
    """Fork ``ranks`` processes, wait for their end, and return what rank 0 wrote.

    Args:
        rank: called in each with its number, the number of ranks and the descriptor of a pipe, which rank 0 writes to.
    """
    reader, writer = os.pipe()
    children = []
    for number in range(ranks):
        child = os.fork()
        if child == 0:
            try:
                rank(number, ranks, writer)
            finally:
                leave_at_once(0)
        children.append(child)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    for child in children:
        os.waitpid(child, 0)
    return text
