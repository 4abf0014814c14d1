"""Shared by the commands on trained runs: their first arguments, and how they report errors. Without torch."""

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from dist_train.errors import ConfigError, DistTrainError
from dist_train.run.folder import RunDir, must_be_a_run
from dist_train.system.program import Parser, program
from dist_train.system.start import whole_number
from dist_train.system.terminal import fault_of_path, given_path, piped, report


def run_parser(name: str, description: str, several: bool = False) -> argparse.ArgumentParser:
    """Return a parser with the run folder (or folders, as ``runs``) ``--weights`` and ``--trust``."""
    parser = Parser(prog=program(name), description=description)
    if several:
        parser.add_argument("runs", metavar="RUN", type=given_path, nargs="+", help="run folder")
    else:
        parser.add_argument("run", metavar="RUN", type=given_path, help="run folder")
    parser.add_argument("--weights", choices=("best", "last"), default="best", help="weights to use (best)")
    parser.add_argument(
        "--trust", action="store_true", help="run code that lies in the run folder, if the run's config names it"
    )
    return parser


def reported(command: Callable[[], int], runs: Sequence[Path] = ()) -> int:
    """Run a command. Print a user error, and end quietly if the reader of a pipe ends early, as ``head`` does.

    Args:
        runs: the run folders that the user names. If none can be used, the answer comes before the command imports torch.

    Returns:
        The exit code.
    """
    try:
        return piped(lambda: _plainly(command, runs))
    except Exception as error:
        if isinstance(error, DistTrainError) and not _of_some_ranks(error):
            return report(error)
        if whole_number("WORLD_SIZE", 1) == 1:
            raise  # Python prints the traceback
        from dist_train.training.failure import fail_command  # imports torch, which --help does not need

        return fail_command(error)


def _plainly(command: Callable[[], int], runs: Sequence[Path]) -> int:
    """Run a command. Raise the user's error if a path cannot be used, perhaps on one node only."""
    try:
        _look_at(runs)
        return command()
    except OSError as error:
        if (refused := fault_of_path(error)) is None:
            raise
        refused.of_one_rank = True
        raise refused from None


def _look_at(runs: Sequence[Path]) -> None:
    """Raise the first error if no path is a run folder. Where one is, the command says what it leaves out."""
    faults: list[ConfigError] = []
    for path in runs:
        try:
            must_be_a_run(RunDir(path))
        except ConfigError as fault:
            faults.append(fault)
    if faults and len(faults) == len(runs):
        raise faults[0]


def _of_some_ranks(error: DistTrainError) -> bool:
    return whole_number("WORLD_SIZE", 1) > 1 and (error.of_one_rank or error.kind == "comm")


def calibrate(argv: list[str]) -> int:
    """Run ``python -m dist_train calibrate RUN``. Return the exit code."""
    args = calibrate_parser().parse_args(argv)
    return reported(lambda: int(_calibrate_run()(args.run, args.weights, args.set, args.trust)), [args.run])


def calibrate_parser() -> argparse.ArgumentParser:
    """Return the parser of ``calibrate``."""
    parser = run_parser(
        "calibrate",
        "Fit a temperature (and for multilabel tasks a threshold for each label) on the validation set of a run. It is kept in "
        "calibration.json of the run folder; predict, export and load_run use it.",
    )
    add_overrides(parser)
    return parser


def _calibrate_run() -> Callable[..., Any]:
    """Import the command's module by name: it imports torch, which --help does not need, and the rest of this package."""
    return import_module("dist_train.inference.calibrate_run").calibrate_run  # type: ignore[no-any-return]


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add ``--set KEY=VALUE``, which may be given several times."""
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a value of the run's config, such as data.root=FOLDER if the images have moved; repeatable",
    )
