"""``python -m dist_train.export RUN``: a run's model as .safetensors and ONNX, each checked against the original."""

import argparse
import sys
from pathlib import Path

from dist_train.inference.command_line import reported, run_parser


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = run_parser(
        "export",
        "Write model.safetensors, model.onnx (any batch size, float32) and model.json (what the input must "
        "look like, and the names of the outputs), then run each file and compare its outputs with the model's own.",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="where to write (RUN/export)")
    return parser


def main(argv: list[str]) -> int:
    """Export and check.

    Returns:
        The exit code.
    """
    args = parser().parse_args(argv)
    from dist_train.inference.export_run import export_run  # imports torch, which --help need not wait for

    return reported(lambda: export_run(args.run, args.weights, args.out or args.run / "export"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
