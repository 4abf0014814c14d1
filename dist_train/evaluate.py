"""``python -m dist_train.evaluate RUN [RUN ...]``: score the weights of runs on their validation or test set, exactly."""

import argparse
import sys
from pathlib import Path

from dist_train.inference.command_line import reported, run_parser


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = run_parser(
        "evaluate",
        "Evaluate the weights of runs: scores, the classes that do worst, the confusion matrix; and, for "
        "several runs, their ensemble by mean probability. Under torchrun the ranks share the work, and the digits "
        "stay the same.",
        several=True,
    )
    parser.add_argument(
        "--split", choices=("val", "test"), default="val", help="which images: the validation or the test set (val)"
    )
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

    return reported(lambda: evaluate_runs(args.runs, args.weights, args.set, args.json, args.picture, args.split))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
