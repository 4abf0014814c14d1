"""The command line that all commands share. Answers ``--help`` and configuration errors without torch."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dist_train.config import Config, dump_config, load_config
from dist_train.config.json_schema import json_schema
from dist_train.errors import ConfigError
from dist_train.system.terminal import positive, report

EPILOG = """\
examples:
  python -m dist_train --config configs/demo.yaml --check
  torchrun --nproc_per_node=4 -m dist_train --config configs/vit.yaml optim.lr=3e-4 run.name=vit-lr3e-4

The same command continues a run that was stopped or killed. Exit codes: 0 done, 2 bad config or data,
75 stopped with a checkpoint (run it again), 1 anything else. Under torchrun a stopped run exits 0;
result.json in the run folder tells how a run ended.
"""


def train_parser() -> argparse.ArgumentParser:
    """The parser of ``python -m dist_train``."""
    parser = argparse.ArgumentParser(
        prog="python -m dist_train",
        description="Fine-tune a vision model from one YAML file, on one process or under torchrun.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="the YAML file that describes the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="replace a value of the file")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--check", action="store_true", help="check everything short of training, print the plan")
    parser.add_argument(
        "--world-size", type=positive, metavar="N", help="with --check: the number of ranks to plan for (1)"
    )
    modes.add_argument("--summary", action="store_true", help="print the model, what of it trains, and its FLOPs")
    modes.add_argument("--list-models", metavar="PATTERN", help="names for model.source and model.name; '*' for all")
    modes.add_argument("--print-config", action="store_true", help="print the resolved config")
    modes.add_argument("--schema", action="store_true", help="print the config's JSON schema, for editors")
    return parser


@dataclass(frozen=True)
class Actions:
    """What needs torch; each returns an exit code."""

    train: Callable[[Config], int]
    check: Callable[[Config, int], int]
    summary: Callable[[Config], int]
    list_models: Callable[[str], int]


def main(argv: Sequence[str], actions: Actions) -> int:
    """Parse, answer what needs no torch, else hand over to one of ``actions``.

    Returns:
        The exit code.
    """
    parser = train_parser()
    args = parser.parse_intermixed_args(argv)
    if args.schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    if args.list_models is not None:
        return actions.list_models(args.list_models)
    if args.world_size is not None and not args.check:
        parser.error("--world-size goes with --check; torchrun --nproc_per_node=N starts N ranks")
    if args.config is None:
        parser.error("--config FILE is missing; configs/ has some to start from")
    try:
        cfg = load_config(args.config, args.overrides)
    except ConfigError as error:
        return report(error)
    if args.print_config:
        print(dump_config(cfg), end="")
        return 0
    if args.check:
        return actions.check(cfg, args.world_size or 1)
    return actions.summary(cfg) if args.summary else actions.train(cfg)
