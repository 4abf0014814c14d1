"""``python -m dist_train.evaluate RUN [RUN ...]``: evaluate the weights of runs on their validation or test set."""

import argparse
import sys

from dist_train.inference.command_line import add_overrides, reported, run_parser
from dist_train.system.program import run_program
from dist_train.system.streams import texts_beside
from dist_train.system.terminal import output_file


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = run_parser(
        "evaluate",
        "Evaluate the weights of runs: print metrics, the worst classes and the confusion matrix; for several runs also "
        "their ensemble (mean of the probabilities); for the runs of a cross-validation (`data.fold`) the score over all "
        "folds, each image judged by the run that did not train on it. Under torchrun the ranks share the work; the results have the same "
        "digits.",
        several=True,
    )
    parser.add_argument(
        "--split", choices=("val", "test"), default="val", help="images to use: validation or test set (val)"
    )
    add_overrides(parser)
    parser.add_argument(
        "--json", metavar="FILE", type=output_file, help="write metrics, table and confusion matrix to FILE"
    )
    parser.add_argument(
        "--picture",
        metavar="FILE",
        type=output_file,
        help="draw the confusion matrix into FILE (.png, .svg, .pdf; needs matplotlib)",
    )
    return parser


def main(argv: list[str]) -> int:
    """Evaluate the runs, print and write the results.

    Returns:
        The exit code.
    """
    args = parser().parse_args(argv)
    return reported(lambda: _evaluate(args), args.runs)


def _evaluate(args: argparse.Namespace) -> int:
    from dist_train.inference.evaluate_runs import evaluate_runs  # imports torch, which --help does not need

    with texts_beside(args.json):
        return evaluate_runs(args.runs, args.weights, args.set, args.json, args.picture, args.split, args.trust)


if __name__ == "__main__":
    sys.exit(run_program(main))
