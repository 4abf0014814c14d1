"""``python -m dist_train.predict RUN IMAGES...``: predict images with the model of a run, as CSV."""

import argparse
import sys
from pathlib import Path

from dist_train.inference.command_line import reported, run_parser
from dist_train.system.terminal import positive


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = run_parser(
        "predict",
        "Predict images with the weights of a run. Prints CSV with one line per image: path, prediction, and the "
        "probability of each class (or the numbers of a regression). Images that cannot be read are listed on stderr and "
        "left out; the exit code is then 2.",
    )
    parser.add_argument("images", metavar="IMAGES", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="write to FILE instead of stdout: CSV, or parquet if it ends in .parquet",
    )
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images in one forward pass (32)")
    return parser


def main(argv: list[str]) -> int:
    """Predict the images, print or write the CSV.

    Returns:
        The exit code.
    """
    args = parser().parse_args(argv)
    from dist_train.inference.predict_images import predict_images  # imports torch, which --help does not need

    return reported(lambda: predict_images(args.run, args.images, args.weights, args.out, args.batch_size, args.trust))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
