"""``python -m dist_train.summary --config FILE``: what a model is made of, what of it trains, and what it costs."""

import argparse
import sys

from dist_train.config.load import load_config
from dist_train.errors import DistTrainError
from dist_train.system.program import program
from dist_train.system.terminal import piped, report


def parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = argparse.ArgumentParser(
        prog=program("summary"),
        description="Print the parts of the model with their parameters, how many of them train, the FLOPs of a forward "
        "pass, and all modules.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the YAML file that describes the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="replace a value of the file")
    return parser


def main(argv: list[str]) -> int:
    """Print. Return the exit code."""
    args = parser().parse_intermixed_args(argv)
    try:
        cfg = load_config(args.config, args.overrides)
    except DistTrainError as error:
        return report(error)
    from dist_train.inference.describe_model import print_model  # imports torch, which --help need not wait for

    return print_model(cfg)


if __name__ == "__main__":
    sys.exit(piped(lambda: main(sys.argv[1:])))
