"""Compare runs by their folders: ``python launch/compare.py RUN RUN... [--html FILE] [--csv FILE] [--png FILE]``.

Print the settings that differ, the best and last metrics, images/s, time, steps and restarts.
Also reads runs that are still training. Names damaged runs and leaves them out. Needs no network.
"""

import argparse
import difflib
import glob
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file, from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dist_train.system.foreign_text import printable
from launch.installation import command
from launch.run_reader import DamagedRun, Run, differing_keys, read_run, result_keys, sort_runs, write_csv

WIDEST = 120
"""The longest value in the table of the terminal."""

EPILOG = """\
examples:
  {compare} runs/head-* runs/full-* --html compare.html
  {compare} 'runs/sweep-*' --sort optim.lr --csv sweep.csv
"""


def main(argv: list[str]) -> int:
    """Return the exit code: 0, 1 if no run could be read, 2 for a wrong command."""
    parser = argparse.ArgumentParser(
        prog=command("compare"),
        description=(__doc__ or "").split("\n\n")[1],
        epilog=EPILOG.format(compare=command("compare")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or patterns in quotes")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with table, curves and the images on which runs differ"
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the curves (needs matplotlib)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table")
    parser.add_argument(
        "--sort",
        metavar="KEY",
        help="column to sort by, such as optim.lr; --sort=-KEY is descending; default: best first",
    )
    args = parser.parse_args(argv)
    if args.png and importlib.util.find_spec("matplotlib") is None:
        parser.error("--png needs matplotlib: pip install matplotlib")
    runs, left_out = read_runs(args.runs)
    for line in left_out:
        print(f"left out: {printable(line)}", file=sys.stderr)
    if not runs:
        print("error: no readable run in these folders", file=sys.stderr)
        return 1
    try:
        runs = sort_runs(runs, args.sort)
    except KeyError as error:
        print(f"error: {printable(_unknown_key(error.args[0], runs))}", file=sys.stderr)
        return 2
    try:
        print(text_table(runs), flush=True)
    except BrokenPipeError:  # `... | head`; the files are still wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        write_files(args, runs, left_out)
    except OSError as error:
        print(f"error: cannot write: {error}", file=sys.stderr)
        return 1
    return 0


def read_runs(patterns: list[str]) -> tuple[list[Run], list[str]]:
    """Return the readable runs, each once, and one line with the reason for each run that is left out."""
    paths = dict.fromkeys(Path(found) for pattern in patterns for found in sorted(glob.glob(pattern)) or [pattern])
    runs, left_out = [], []
    for path in paths:
        if not path.exists():
            left_out.append(f"{path}: no such folder")
        elif path.is_dir():  # a pattern may match files too
            try:
                runs.append(read_run(path))
            except DamagedRun as error:
                left_out.append(f"{path}: {error}")
    names = [run.name for run in runs]
    for run in runs:
        if names.count(run.path.name) > 1:
            run.name = str(run.path)
    return runs, left_out


def write_files(args: argparse.Namespace, runs: list[Run], left_out: list[str]) -> None:
    """Write the files that the options name."""
    for file in (args.html, args.png, args.csv):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
    if args.csv:
        write_csv(args.csv, runs)
    if args.html or args.png:
        from launch.compare_page import write_html, write_png  # numpy and matplotlib: only where needed

        if args.html:
            from launch.compare_predictions import pairs_of

            write_html(args.html, runs, left_out, pairs_of(runs))
        if args.png:
            write_png(args.png, runs)


def text_table(runs: list[Run]) -> str:
    """Return the comparison for a terminal, one line per run."""
    columns = ["name", *differing_keys(runs), *result_keys(runs)]
    cells = [[printable(name) for name in columns]]
    cells += [[_show(_value(run, key)) for key in columns] for run in runs]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    numeric = [all(not isinstance(_value(run, key), str) for run in runs) for key in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def _value(run: Run, key: str) -> Any:
    return run.name if key == "name" else run.settings.get(key, run.results.get(key))


def _show(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else printable(value, most=WIDEST)


def _unknown_key(key: str, runs: list[Run]) -> str:
    known = sorted({name for run in runs for name in (*run.settings, *run.results)})
    near = difflib.get_close_matches(key, known, n=1)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"columns are name, {', '.join(differing_keys(runs) + result_keys(runs))}"
    )
    return f"--sort {key}: no run has it; {hint}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
