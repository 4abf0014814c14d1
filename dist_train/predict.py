"""``python -m dist_train.predict RUN IMAGES...``: what a run's model says of images, as CSV."""

import argparse
import sys
from pathlib import Path

from dist_train.inference.command_line import reported, run_parser
from dist_train.system.terminal import positive


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = run_parser(
        "predict",
        "Predict images with the weights of a run. One line of CSV an image: path, prediction, and the "
        "probability of every class (or the numbers of a regression). Images that cannot be read are named on stderr "
        "and left out; the exit code is then 2.",
    )
    parser.add_argument("images", metavar="IMAGES", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the CSV here instead of to stdout")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images in one forward pass (32)")
    return parser


def main(argv: list[str]) -> int:
    """Predict, print or write.

    Returns:
        The exit code.
    """
    args = parser().parse_args(argv)
    from dist_train.inference.predict_images import predict_images  # imports torch, which --help need not wait for

    return reported(lambda: predict_images(args.run, args.images, args.weights, args.out, args.batch_size))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
