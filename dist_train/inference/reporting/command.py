"""``python -m dist_train report RUN``: the command line. Without torch."""

import argparse

from dist_train.inference.command_line import add_overrides, reported
from dist_train.system.program import Parser, program
from dist_train.system.terminal import given_path, output_file, whole

IMAGES = 24
MOST_IMAGES = 100
"""More would make a page that browsers open slowly."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=program("report"),
        description="Write one HTML page about a run, which needs no network and no other file: result and settings, curves, confusion matrix, "
        "classes, calibration, the images that the best weights get wrong, speed. It reads the files of the run folder, and some "
        "images; it runs no model, but with --cam. Needs the extra `report`.",
    )
    parser.add_argument("run", metavar="RUN", type=given_path, help="run folder")
    parser.add_argument("--out", type=output_file, metavar="FILE", help="the page, .html (RUN/report.html)")
    parser.add_argument(
        "--images",
        type=whole,
        default=IMAGES,
        metavar="N",
        help=f"images in each of two lists, at most {MOST_IMAGES}; 0: none ({IMAGES})",
    )
    parser.add_argument(
        "--cam",
        action="store_true",
        help="show where the model looked in each image (Grad-CAM; it loads the best weights, and needs the extra `cam`)",
    )
    parser.add_argument(
        "--trust", action="store_true", help="run code that lies in the run folder, if the run's config names it"
    )
    add_overrides(parser)
    return parser


def main(argv: list[str]) -> int:
    """Write the page. Return the exit code."""
    args = parser().parse_args(argv)
    if args.images > MOST_IMAGES:
        parser().error(f"--images ({args.images}) must be at most {MOST_IMAGES}")

    def report() -> int:
        from dist_train.inference.reporting.report import report  # imports torch, which --help does not need

        if not args.cam:
            return report(args.run, args.out, args.images, args.set, args.trust)
        from dist_train.inference.reporting.looks import looks

        return report(args.run, args.out, args.images, args.set, args.trust, looks)

    return reported(report, [args.run])
