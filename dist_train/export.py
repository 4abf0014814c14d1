"""``python -m dist_train.export RUN``: write the model of a run as .safetensors and ONNX, and check both files."""

import argparse
import sys
from pathlib import Path

from dist_train.inference.command_line import reported, run_parser


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = run_parser(
        "export",
        "Write model.safetensors, model.onnx (any batch size, float32) and model.json (form of the input, names of the "
        "outputs). Then run both models and compare their outputs with those of the original.",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="output folder (RUN/export)")
    return parser


def main(argv: list[str]) -> int:
    """Export the model and check the files.

    Returns:
        The exit code.
    """
    args = parser().parse_args(argv)
    from dist_train.inference.export_run import export_run  # imports torch, which --help does not need

    return reported(lambda: export_run(args.run, args.weights, args.out or args.run / "export", args.trust))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
