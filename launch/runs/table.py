"""The comparison as a table of text: results first, then the settings that matter, as wide as the terminal allows."""

import shutil
import sys
from typing import Any

from dist_train.system.foreign_text import printable
from launch.runs.groups import Group, settings_in_levels
from launch.runs.reader import Run, result_keys
from launch.runs.tree import tree

WIDEST = 120
"""The longest value."""
GAP = "  "


def columns_of(runs: list[Run]) -> list[str]:
    """Return the names of all columns: the result that ranks the runs, settings that matter, other results, other settings."""
    metrics = [f"best.{metric}" for metric in dict.fromkeys(run.metric for run in runs)]
    matters, folded = settings_in_levels(runs)
    results = result_keys(runs)
    first = [key for key in metrics if key in results]
    return ["name", *first, *matters, *(key for key in results if key not in first), *folded]


def text_tables(groups: list[Group], width: int | None = None) -> str:
    """Return a table for each group, and the tree of the runs if some began from others.

    Args:
        width: columns of characters that there is room for; None for as many as it takes.
    """
    runs = [run for group in groups for run in group.runs]
    columns = columns_of(runs)
    shown = columns if width is None else _that_fit(columns, runs, width)
    parts = []
    for group in groups:
        head = [f"{printable(group.about, most=WIDEST)}:"] if len(groups) > 1 else []
        parts.append("\n".join([*head, _table(shown, group.runs)]))
    if len(groups) > 1:
        parts.append(
            "Runs in different tables have another metric or other validation images: their results do not compare."
        )
    if left := [key for key in columns if key not in shown]:
        parts.append(
            f"not in the width of this terminal: {', '.join(map(printable, left))} (--html and --csv have all)"
        )
    if lines := tree(runs):
        parts.append(
            "\n".join(["weights:", *(f"  {GAP * depth}{printable(text, most=WIDEST)}" for depth, text in lines)])
        )
    return "\n\n".join(parts)


def terminal_width() -> int | None:
    """Return the width of the terminal; None if the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _that_fit(columns: list[str], runs: list[Run], width: int) -> list[str]:
    """Return the columns, in their order, of which each fits beside those before it; at least the first two."""
    shown: list[str] = []
    used = 0
    for key in columns:
        needed = max(len(cell) for cell in _cells(key, runs)) + len(GAP)
        if len(shown) < 2 or used + needed - len(GAP) <= width:
            shown.append(key)
            used += needed
    return shown


def _cells(key: str, runs: list[Run]) -> list[str]:
    return [printable(key), *(_show(value_of(run, key)) for run in runs)]


def _table(columns: list[str], runs: list[Run]) -> str:
    cells = [_cells(key, runs) for key in columns]
    widths = [max(map(len, column)) for column in cells]
    numeric = [all(not isinstance(value_of(run, key), str) for run in runs) for key in columns]
    lines = [
        GAP.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        for row in zip(*cells, strict=True)
    ]
    return "\n".join(line.rstrip() for line in lines)


def value_of(run: Run, key: str) -> Any:
    """Return a setting or a result of a run, or its name; None if it has none."""
    return run.name if key == "name" else run.settings.get(key, run.results.get(key))


def _show(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else printable(value, most=WIDEST)
