"""Compare runs by their folders: ``python launch/compare.py RUN RUN... [--html FILE] [--csv FILE] [--png FILE]``.

Print the best metric, the settings that differ, the other metrics, images/s, time, steps and
restarts. Runs with another metric or other validation images have a table of their own. Also
reads runs that are still training. Names damaged runs and leaves them out. Needs no network.
"""

import argparse
import difflib
import glob
import importlib.util
import os
import sys
from pathlib import Path

if not __package__:  # run as a file, from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dist_train.errors import ConfigError
from dist_train.run.folder import fault_of_folder
from dist_train.system.foreign_text import printable
from dist_train.system.program import Parser
from dist_train.system.streams import texts_beside
from dist_train.system.terminal import PICTURES, check_output, check_suffix, given_path, output_file
from launch.installation import command
from launch.runs.groups import Group, grouped
from launch.runs.reader import DamagedRun, Run, differing_keys, read_run, result_keys, write_csv
from launch.runs.table import terminal_width, text_tables

EPILOG = """\
examples:
  {compare} runs/head-* runs/full-* --html compare.html
  {compare} 'runs/sweep-*' --sort optim.lr --csv sweep.csv
"""


def main(argv: list[str]) -> int:
    """Return the exit code: 0, 1 if no run could be read, 2 for a wrong command."""
    parser = Parser(
        prog=command("compare"),
        description=(__doc__ or "").split("\n\n")[1],
        epilog=EPILOG.format(compare=command("compare")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", type=given_path, help="run folders, or patterns in quotes")
    parser.add_argument(
        "--html",
        type=output_file,
        metavar="FILE",
        help="write a page with table, curves and the images on which runs differ",
    )
    parser.add_argument("--png", type=output_file, metavar="FILE", help="draw the curves (needs matplotlib)")
    parser.add_argument("--csv", type=output_file, metavar="FILE", help="write the table")
    parser.add_argument(
        "--sort",
        metavar="KEY",
        help="column to sort by, such as optim.lr; --sort=-KEY is descending; default: best first",
    )
    args = parser.parse_args(argv)
    try:
        if args.png:
            check_suffix("--png", args.png, PICTURES)
        for name in ("html", "png", "csv"):
            if file := getattr(args, name):
                check_output(f"--{name}", file)  # fail now, not after the table
    except ConfigError as error:
        parser.error(str(error))
    if args.png and importlib.util.find_spec("matplotlib") is None:
        parser.error("--png needs matplotlib: pip install matplotlib")
    runs, left_out = read_runs([str(run) for run in args.runs])
    for line in left_out:
        print(f"left out: {printable(line)}", file=sys.stderr)
    if not runs:
        print("error: no readable run in these folders; give folders that hold a config.yaml", file=sys.stderr)
        return 1
    try:
        groups = grouped(runs, args.sort)
    except KeyError as error:
        print(f"error: {printable(_unknown_key(error.args[0], runs))}", file=sys.stderr)
        return 2
    with texts_beside(args.csv), texts_beside(args.html):
        try:
            print(text_tables(groups, terminal_width()), flush=True)
        except BrokenPipeError:  # `... | head`; the files are still wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        try:
            write_files(args, groups, left_out)
        except (ConfigError, OSError) as error:
            print(f"error: cannot write: {error}", file=sys.stderr)
            return 1
    return 0


def read_runs(patterns: list[str]) -> tuple[list[Run], list[str]]:
    """Return the readable runs, each once, and one line with the reason for each run that is left out."""
    paths = dict.fromkeys(Path(found) for pattern in patterns for found in sorted(glob.glob(pattern)) or [pattern])
    runs, left_out = [], []
    for path in paths:
        if os.path.isfile(path):  # a pattern may match files too
            continue
        try:
            if fault := fault_of_folder(path):
                raise DamagedRun(fault)
            runs.append(read_run(path))
        except DamagedRun as error:
            left_out.append(f"{path}: {error}")
    names = [run.name for run in runs]
    for run in runs:
        if names.count(run.path.name) > 1:
            run.name = str(run.path)
    return runs, left_out


def write_files(args: argparse.Namespace, groups: list[Group], left_out: list[str]) -> None:
    """Write the files that the options name."""
    runs = [run for group in groups for run in group.runs]
    if args.csv:
        write_csv(args.csv, runs)
        print(f"table: {args.csv}")
    if args.html or args.png:
        from launch.runs.page import write_html, write_png  # numpy and matplotlib: only where needed

        if args.html:
            from launch.runs.predictions import pairs_of

            pairs = [pair for group in groups for pair in pairs_of(group.runs)]
            write_html(args.html, groups, left_out, pairs)
            print(f"page: {args.html}")
        if args.png:
            write_png(args.png, runs)
            print(f"curves: {args.png}")


def _unknown_key(key: str, runs: list[Run]) -> str:
    known = sorted({name for run in runs for name in (*run.settings, *run.results)})
    near = [f"best.{key}"] if f"best.{key}" in known else difflib.get_close_matches(key, known, n=1)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"columns are name, {', '.join(differing_keys(runs) + result_keys(runs))}"
    )
    return f"--sort {key}: no run has it; {hint}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
