"""``python -m dist_train average RUN [RUN ...] --name NEW``: the command line. Without torch."""

import argparse

from dist_train.inference.command_line import reported
from dist_train.system.program import Parser, program
from dist_train.system.terminal import given_path, positive


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=program("average"),
        description="Average the best weights of several runs (a model soup), or the kept checkpoints of one run, recompute "
        "the statistics of BatchNorms on training images, evaluate, and write the result as a run that evaluate, predict "
        "and export take.",
    )
    parser.add_argument("runs", metavar="RUN", type=given_path, nargs="+", help="run folder; with one, its checkpoints")
    parser.add_argument("--name", required=True, metavar="NEW", help="name of the new run, beside the first RUN")
    parser.add_argument(
        "--greedy", action="store_true", help="add the weights one by one, best first, and keep what does not harm"
    )
    parser.add_argument(
        "--last", type=positive, metavar="K", help="of one RUN: its last K checkpoints (all that it kept)"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a value of the runs' configs, such as data.root=FOLDER if the images have moved; repeatable",
    )
    parser.add_argument(
        "--trust", action="store_true", help="run code that lies in a run folder, if the run's config names it"
    )
    return parser


def main(argv: list[str]) -> int:
    """Average weights, evaluate the result and write it. Return the exit code."""
    args = parser().parse_args(argv)
    return reported(lambda: _average(args), args.runs)


def _average(args: argparse.Namespace) -> int:
    from dist_train.inference.averaging.average_runs import average_runs  # imports torch, which --help does not need

    return average_runs(args.runs, args.name, args.greedy, args.last, args.set, args.trust)
