"""``python -m dist_train.evaluate RUN [RUN ...]``: score the weights of runs on their validation set, exactly."""

import argparse
import sys
from pathlib import Path

from dist_train.errors import DistTrainError
from dist_train.system.program import program
from dist_train.system.terminal import piped, report


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=program("evaluate"),
        description="Evaluate the weights of runs: scores, the classes that do worst, the confusion matrix; and, for "
        "several runs, their ensemble by mean probability. Under torchrun the ranks share the work, and the digits "
        "stay the same.",
    )
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="a run folder")
    parser.add_argument("--weights", choices=("best", "last"), default="best", help="which of its weights (best)")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="replace a value of the runs' configs, as data.root=FOLDER where the images have moved; may be repeated",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write scores, table and confusion matrix here")
    parser.add_argument(
        "--picture",
        metavar="FILE",
        type=Path,
        help="draw the confusion matrix here (.png, .svg, .pdf; needs matplotlib)",
    )
    return parser


def main(argv: list[str]) -> int:
    """Evaluate, print, write.

    Returns:
        The exit code.
    """
    args = parser().parse_args(argv)
    from dist_train.inference.evaluate_runs import evaluate_runs  # imports torch, which --help need not wait for

    try:
        return evaluate_runs(args.runs, args.weights, args.set, args.json, args.picture)
    except DistTrainError as error:
        return report(error)


if __name__ == "__main__":
    sys.exit(piped(lambda: main(sys.argv[1:])))
