"""``python -m dist_train.drill --config FILE``: test that a run survives stops, kills and damage, before the long run."""

import argparse
import shutil
import sys

from dist_train.config.load import load_config
from dist_train.drill.faults import FAULTS, CommandStart
from dist_train.drill.rehearsal import STEPS, Drill, table
from dist_train.errors import EXIT_DONE, EXIT_FAILED, DistTrainError
from dist_train.system.program import Parser, program, run_program
from dist_train.system.terminal import positive, report


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=program("drill"),
        description="Test, on this machine and with your config, that a run survives failures: short runs of "
        f"{STEPS} steps are stopped, killed or damaged, then started again. Each must end with the same weights as an "
        "uninterrupted run.",
        epilog="Writes to <run.output_dir>/drill-<run.name>, and removes this folder if all runs survived. "
        "Exit codes: 0 nothing was lost, 1 something was lost, 2 bad config or data.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the YAML file that describes the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="replace a value of the file")
    parser.add_argument(
        "--ranks", type=positive, default=1, metavar="N", help="ranks on this machine, under torchrun (1)"
    )
    parser.add_argument(
        "--limit", type=float, default=900, metavar="S", help="time limit of each start in seconds (900)"
    )
    parser.add_argument("--keep", action="store_true", help="never remove the folder")
    return parser


def main(argv: list[str]) -> int:
    """Run the drill and print a table.

    Returns:
        The exit code.
    """
    args = parser().parse_intermixed_args(argv)
    try:
        cfg = load_config(args.config, args.overrides)
        faults = [fault for fault in FAULTS if fault.needs_ranks <= args.ranks]
        drill = Drill(cfg, args.ranks, args.limit, CommandStart)
        outcomes = drill(faults)
    except DistTrainError as error:
        return report(error)
    print(table(outcomes, drill.noise))
    failed = any(outcome.trouble for outcome in outcomes)
    if failed or args.keep:
        print(f"runs and logs are in {drill.folder}")
    else:
        shutil.rmtree(drill.folder)
    return EXIT_FAILED if failed else EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_program(main))
