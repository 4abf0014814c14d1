"""``python -m dist_train.check --config FILE``: check config, data and model without training; print the plan."""

import argparse
import sys

from dist_train.config.load import load_config
from dist_train.config.schema import Config
from dist_train.errors import DistTrainError
from dist_train.system.program import Parser, program, run_program
from dist_train.system.terminal import positive, report


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=program("check"),
        description="Check data, model, weights, batch sizes and disk space, and print the plan of the run. Does not "
        "train and writes no files.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the YAML file that describes the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a value of the file")
    parser.add_argument("--world-size", type=positive, default=1, metavar="N", help="number of ranks to plan for (1)")
    return parser


def main(argv: list[str]) -> int:
    """Run the checks and print the plan. Return the exit code."""
    args = parser().parse_intermixed_args(argv)
    try:
        cfg = load_config(args.config, args.overrides)
    except DistTrainError as error:
        return report(error)
    return check_config(cfg, args.world_size)


def check_config(cfg: Config, world_size: int) -> int:
    """Check a config for a run on ``world_size`` ranks, and print the plan. Return the exit code."""
    from dist_train.data.formats.walk import look_at_root  # torch, numpy and Pillow: --help does not need them

    try:
        look_at_root(cfg.data)
    except DistTrainError as error:
        return report(error)
    from dist_train.inference.config_check import check_and_print

    return check_and_print(cfg, world_size)


if __name__ == "__main__":
    sys.exit(run_program(main))
