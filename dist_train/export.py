"""``python -m dist_train.export RUN``: a run's model as .safetensors and ONNX, each checked against the original."""

import argparse
import sys
from pathlib import Path

from dist_train.errors import DistTrainError
from dist_train.system.program import program
from dist_train.system.terminal import report


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=program("export"),
        description="Write model.safetensors, model.onnx (any batch size, float32) and model.json (what the input must "
        "look like, and the names of the outputs), then run each file and compare its outputs with the model's own.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument("--weights", choices=("best", "last"), default="best", help="which of its weights (best)")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="where to write (RUN/export)")
    return parser


def main(argv: list[str]) -> int:
    """Export and check.

    Returns:
        The exit code.
    """
    args = parser().parse_args(argv)
    from dist_train.inference.export_run import export_run  # imports torch, which --help need not wait for

    try:
        return export_run(args.run, args.weights, args.out or args.run / "export")
    except DistTrainError as error:
        return report(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
