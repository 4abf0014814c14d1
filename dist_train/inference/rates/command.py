"""``python -m dist_train lr_find --config FILE [key.path=value ...]``: the command line. Without torch."""

import argparse

from dist_train.config.load import load_config
from dist_train.inference.command_line import reported
from dist_train.inference.rates.search import FEWEST, HIGHEST, LOWEST, STEPS
from dist_train.system.machine.memory import expand_gpu_segments
from dist_train.system.program import Parser, program
from dist_train.system.terminal import output_file, positive


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=program("lr_find"),
        description=f"Train for a few steps while the learning rate rises from {LOWEST:g} to {HIGHEST:g}, print the loss at each "
        "rate, and suggest a value of optim.lr. It trains as the run would: the same images, model, optimizer, precision and ranks "
        "(under torchrun too). It writes no run folder and keeps no weights.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the YAML file that describes the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a value of the file")
    parser.add_argument("--steps", type=_steps, default=STEPS, metavar="N", help=f"optimizer steps ({STEPS})")
    parser.add_argument(
        "--picture",
        type=output_file,
        metavar="FILE",
        help="draw the curve into FILE (.png, .svg, .pdf; needs matplotlib)",
    )
    return parser


def main(argv: list[str]) -> int:
    """Find a learning rate and print it. Return the exit code."""
    args = parser().parse_intermixed_args(argv)

    def find() -> int:
        cfg = load_config(args.config, args.overrides)
        expand_gpu_segments(cfg.model.cuda_graphs)
        from dist_train.inference.rates.find_rate import find_rate  # imports torch, which --help does not need

        return find_rate(cfg, args.steps, args.picture)

    return reported(find)


def _steps(text: str) -> int:
    steps = positive(text)
    if steps < FEWEST:
        raise argparse.ArgumentTypeError(f"{steps} steps are too few for a curve; use at least {FEWEST}")
    return steps
