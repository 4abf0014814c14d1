"""``python -m dist_train.predict RUN IMAGES...``: predict images with the model of a run, as a table."""

import argparse
import sys

from dist_train.inference.command_line import add_overrides, reported, run_parser
from dist_train.inference.predicting.places import Places
from dist_train.system.program import run_program
from dist_train.system.streams import texts_beside
from dist_train.system.terminal import given_path, output_file, positive


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = run_parser(
        "predict",
        "Predict images with the weights of a run. Prints CSV with one line per image: path, prediction, and the "
        "probability of each class (or the numbers of a regression), in the order of IMAGES. Images that cannot be read "
        "are listed on stderr and left out; the exit code is then 2. Under torchrun the ranks share the work; on CPUs the "
        "results have the same digits. Loader processes read the images: --set data.workers=N changes their number.",
    )
    parser.add_argument("images", metavar="IMAGES", type=given_path, nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=output_file,
        help="write to FILE instead of stdout, .csv or .parquet; a name without suffix is CSV",
    )
    parser.add_argument(
        "--embeddings",
        metavar="FILE",
        type=output_file,
        help="write the input of the model's head for each image, its pooled features: float32 [N, E] in the order of the "
        "table if FILE ends in .npy; the column `embedding` of the table if FILE is the .parquet file of --out",
    )
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images of a batch (32)")
    add_overrides(parser)
    return parser


def main(argv: list[str]) -> int:
    """Predict the images, print or write the table.

    Returns:
        The exit code.
    """
    args = parser().parse_args(argv)
    return reported(lambda: _predict(args, Places(args.out, args.embeddings)), [args.run])


def _predict(args: argparse.Namespace, places: Places) -> int:
    from dist_train.inference.predict_images import predict_images  # imports torch, which --help does not need

    with texts_beside(args.out):
        return predict_images(args.run, args.images, args.weights, places, args.batch_size, args.trust, args.set)


if __name__ == "__main__":
    sys.exit(run_program(main))
