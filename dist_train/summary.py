"""``python -m dist_train.summary --config FILE``: print the layers, trained parameters and FLOPs of the model."""

import argparse
import sys

from dist_train.config.load import load_config
from dist_train.errors import DistTrainError
from dist_train.system.program import Parser, program, run_program
from dist_train.system.terminal import report


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=program("summary"),
        description="Print the parts of the model with their parameters (all, and those that train), the FLOPs of a "
        "forward pass, and every module.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the YAML file that describes the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a value of the file")
    return parser


def main(argv: list[str]) -> int:
    """Print the summary. Return the exit code."""
    args = parser().parse_intermixed_args(argv)
    try:
        cfg = load_config(args.config, args.overrides)
    except DistTrainError as error:
        return report(error)
    from dist_train.inference.describe_model import print_model  # imports torch, which --help does not need

    return print_model(cfg)


if __name__ == "__main__":
    sys.exit(run_program(main))
