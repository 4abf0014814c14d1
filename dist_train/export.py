"""``python -m dist_train.export RUN``: write the model of a run for other programs, and check what they compute."""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module

from dist_train.inference.command_line import reported, run_parser
from dist_train.system.program import run_program
from dist_train.system.terminal import output_folder

FORMATS = {
    "onnx": "dist_train.inference.handover.onnx_file:export_onnx",
    "timm": "dist_train.inference.handover.timm_folder:export_timm",
    "pt2": "dist_train.inference.handover.pt2_file:export_pt2",
}
"""What ``--format`` takes -> the function that writes it: (run, weights, folder, trust) -> exit code."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = run_parser(
        "export",
        "Write model.safetensors, model.onnx (any batch size, float32) and model.json (form of the input, names of the "
        "outputs). Or, with --format timm, a folder that timm and transformers load: model.safetensors, config.json, and the "
        "model card README.md. Or, with --format pt2, model.pt2 of torch.export. Then run the written "
        "models and compare their outputs with those of the original.",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="onnx", help="what to write (onnx, with model.safetensors)"
    )
    parser.add_argument(
        "--push",
        metavar="ORG/NAME",
        help="of timm: upload the folder to the Hugging Face hub; a new repository is private",
    )
    parser.add_argument("--half", action="store_true", help="write model_fp16.onnx, which computes in float16")
    parser.add_argument(
        "--out", metavar="FOLDER", type=output_folder, help="output folder (RUN/export; of timm, RUN/export/timm)"
    )
    return parser


def main(argv: list[str]) -> int:
    """Export the model and check the files.

    Returns:
        The exit code.
    """
    command = parser()
    args = command.parse_args(argv)
    if args.half and args.format != "onnx":
        command.error(f"--half is for --format onnx, not {args.format}: load the model and call half()")
    if args.push is not None and args.format != "timm":
        command.error(f"--push is for --format timm, not {args.format}: the hub shows and loads models in timm's form")
    options = {key: value for key, value in {"half": args.half, "push_to": args.push}.items() if value}
    usual = args.run / "export" / ("timm" if args.format == "timm" else "")
    return reported(
        lambda: _writer(args.format)(args.run, args.weights, args.out or usual, args.trust, **options), [args.run]
    )


def _writer(name: str) -> Callable[..., int]:
    """Return the function of a format; its module imports torch, which --help does not need."""
    module, _, function = FORMATS[name].partition(":")
    return getattr(import_module(module), function)  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(run_program(main))
