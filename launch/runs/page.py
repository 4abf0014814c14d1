"""The comparison as one self-contained HTML page, and as a PNG. ``compare.py`` is the command."""

import json
import math
import time
from pathlib import Path
from typing import Any

from dist_train.system.foreign_text import printable
from dist_train.system.terminal import written_whole
from launch.runs.groups import Group, families, most_varied, settings_in_levels
from launch.runs.predictions import Pair
from launch.runs.reader import Run, lower_is_better, result_keys
from launch.runs.tree import tree

MAX_POINTS = 400
"""Points of one curve in the page; fewer with many runs."""
_FIRST_CHARTS = ("val/top1", "val/top5", "val/loss", "train/loss", "train/lr", "train/images_per_s")
_NO_CURVE = ("step", "epoch", "split", "seconds", "slowest_rank")


def write_html(path: Path, groups: list[Group], left_out: list[str], pairs: list[Pair]) -> None:
    """Write the page. It needs no network and no other file."""
    runs = [run for group in groups for run in group.runs]
    matters, folded = settings_in_levels(runs)
    places = {id(run): place for place, run in enumerate(runs)}
    points = max(60, min(MAX_POINTS, 12_000 // len(runs)))
    charts = chart_names(runs)
    page = {
        "about": f"{len(runs)} runs, read {time.strftime('%Y-%m-%d %H:%M %Z')}. Blue columns: the settings that differ.",
        "groups": [{"about": group.about, "runs": [places[id(run)] for run in group.runs]} for group in groups],
        "metrics": list(dict.fromkeys(f"best.{run.metric}" for run in runs)),
        "families": families(runs),
        "paint": most_varied(runs) or "run",
        "tree": tree(runs),
        "axis": "epoch" if len({str(run.settings.get("train.global_batch")) for run in runs}) > 1 else "step",
        "settingKeys": matters,
        "foldedKeys": folded,
        "resultKeys": result_keys(runs),
        "lower": {key: lower for key in result_keys(runs) if (lower := lower_is_better(key)) is not None},
        "charts": charts,
        "leftOut": left_out,
        "pairs": [pair.as_dict() for pair in pairs],
        "runs": [
            {
                "name": run.name,
                "path": str(run.path),
                "settings": {key: _json(value) for key, value in run.settings.items()},
                "results": {key: _finite(value) for key, value in run.results.items()},
                "curves": {name: curve(run, name, points) for name in charts},
            }
            for run in runs
        ],
    }
    text = json.dumps(page, allow_nan=False).replace("<", "\\u003c")  # no value can close the script
    template = Path(__file__).with_name("page.html").read_text()
    with written_whole("--html", path) as file:
        file.write(template.replace("@DATA@", text).encode())


def chart_names(runs: list[Run]) -> list[str]:
    """Return ``<split>/<metric>`` for every number that any run logged, the usual ones first."""
    found = {
        f"{split}/{key}"
        for run in runs
        for split, rows in run.rows.items()
        for row in (*rows[:1], *rows[-1:])
        for key, value in row.items()
        if key not in _NO_CURVE and isinstance(value, int | float) and not isinstance(value, bool)
    }
    first = dict.fromkeys((f"val/{runs[0].metric}", *_FIRST_CHARTS))
    return [name for name in first if name in found] + sorted(found - set(first))


def curve(run: Run, name: str, points: int) -> list[list[float | None]]:
    """Return triples [step, epoch, value], reduced evenly to about ``points``; the last one is always kept."""
    split, _, key = name.partition("/")
    rows = [row for row in run.rows.get(split, []) if isinstance(row.get(key), int | float)]
    stride = max(1, math.ceil(len(rows) / points))
    kept = rows[::-stride][::-1]
    return [[row["step"], _finite(row.get("epoch", row["step"])), _finite(float(f"{row[key]:.6g}"))] for row in kept]


def write_png(path: Path, runs: list[Run]) -> None:
    """Draw validation metric and training loss of all runs; the legend shows the settings that differ."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = [
        name for name in (f"val/{runs[0].metric}", "val/loss", "train/loss", "train/lr") if name in chart_names(runs)
    ]
    names = list(dict.fromkeys(names))[:3]
    figure, axes = plt.subplots(1, max(1, len(names)), figsize=(4.6 * max(1, len(names)), 4.4), squeeze=False)
    colours = plt.get_cmap("tab10" if len(runs) <= 10 else "viridis")
    for axis, name in zip(axes[0], names, strict=False):
        for index, run in enumerate(runs):
            triples = [triple for triple in curve(run, name, MAX_POINTS) if triple[2] is not None]
            colour = colours(index if len(runs) <= 10 else index / (len(runs) - 1))
            axis.plot([t[1] for t in triples], [t[2] for t in triples], color=colour, label=_legend(run, runs), lw=1.6)
        axis.set_title(printable(name), loc="left", fontsize=11, parse_math=False)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    rows = math.ceil(min(len(runs), 12) / 2)
    legend = figure.legend(handles[:12], labels[:12], loc="lower center", ncols=2, frameon=False, fontsize=9)
    for entry in legend.get_texts():
        entry.set_parse_math(False)  # matplotlib would read text between $ as a formula
    figure.tight_layout(rect=(0, 0.02 + 0.055 * rows, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _legend(run: Run, runs: list[Run]) -> str:
    chosen = list(dict.fromkeys([*filter(None, [most_varied(runs)]), *settings_in_levels(runs)[0]]))[:2]
    settings = ", ".join(f"{key.rpartition('.')[2]} {run.settings.get(key, '–')}" for key in chosen)
    score = run.results.get(f"best.{run.metric}")
    best = f"best {run.metric} {score:.4g}" if isinstance(score, int | float) else "no result yet"
    return printable(f"{run.name}: {best}" + (f" ({settings})" if settings else ""), most=120)


def _json(value: Any) -> Any:
    """Return a setting as JSON can write it: an infinite one, for example, as text."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return str(value)
    return value


def _finite(value: Any) -> Any:
    """Return None for NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
