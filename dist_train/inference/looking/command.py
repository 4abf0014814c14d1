"""``python -m dist_train look --config FILE [key.path=value ...]``: the command line. Without torch."""

import argparse

from dist_train.config.load import load_config
from dist_train.inference.command_line import reported
from dist_train.system.program import Parser, program
from dist_train.system.terminal import given_path, output_file, positive

IMAGES = 24


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=program("look"),
        description="Draw what the model is fed: the first training images of the run after every transform, with their "
        "targets after mixing; evaluation images; class counts, sizes, and what the crop cuts away. Needs matplotlib.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the YAML file that describes the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a value of the file")
    parser.add_argument(
        "--out",
        type=output_file,
        metavar="FILE",
        help="the picture, .png, or the table of --doctor, .csv (beside the run folder: <run.name>-look.png, -findings.csv)",
    )
    parser.add_argument(
        "--doctor",
        action="store_true",
        help="read every image instead, and list duplicates, broken and blank images in a table for data.exclude",
    )
    parser.add_argument(
        "--images", type=positive, default=IMAGES, metavar="N", help=f"most images to draw of each split ({IMAGES})"
    )
    parser.add_argument(
        "--world-size", type=positive, default=1, metavar="N", help="draw the first images of N ranks' rank 0 (1)"
    )
    parser.add_argument(
        "--run",
        type=given_path,
        action="append",
        default=[],
        metavar="RUN",
        help="with --doctor: list validation images of this run that its model takes for another class; repeatable, for folds",
    )
    parser.add_argument(
        "--trust", action="store_true", help="run code that lies in the folder of a --run, if its config names it"
    )
    return parser


def main(argv: list[str]) -> int:
    """Draw the picture. Return the exit code."""
    args = parser().parse_intermixed_args(argv)
    if args.run and not args.doctor:
        parser().error("--run needs --doctor")

    def look() -> int:
        cfg = load_config(args.config, args.overrides)
        if args.doctor:
            from dist_train.inference.looking.doctor import doctor  # imports torch, which --help does not need

            if not args.run:
                return doctor(cfg, args.out)
            from dist_train.inference.looking.suspects import suspects

            return doctor(cfg, args.out, lambda index: suspects(index, args.run, args.trust))
        from dist_train.inference.looking.look import look

        return look(cfg, args.out, args.images, args.world_size)

    return reported(look)
