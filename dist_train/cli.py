"""The commands of ``dist-train`` = ``python -m dist_train``. Without a command name, it trains.

``--help``, config errors and every option that needs no model work without importing torch.
"""

import argparse
import difflib
import importlib
import json
import os
from collections.abc import Sequence
from typing import Any, get_args

from dist_train import __version__
from dist_train.config import Config, load_config
from dist_train.config.examples import example, listing
from dist_train.config.files import recipes
from dist_train.config.files.printed import EXTENTS, printed, printing
from dist_train.config.schema import json_schema
from dist_train.errors import EXIT_DONE, EXIT_STOPPED, ConfigError
from dist_train.imports import prepare
from dist_train.run.saved_config import Which, branched
from dist_train.system.processes import leave_at_once
from dist_train.system.program import Parser, program
from dist_train.system.signals import ignore_stop_signals
from dist_train.system.terminal import given_path, piped, positive, report

COMMANDS = {
    "train": ("dist_train.cli:train", "train or resume a run; the default command"),
    "check": ("dist_train.check:main", "check config, data and model without training; print the plan"),
    "summary": ("dist_train.summary:main", "print the layers, trained parameters and FLOPs of the model"),
    "statistics": (
        "dist_train.data.report.channel_statistics:main",
        "compute mean and standard deviation of your training images",
    ),
    "look": ("dist_train.inference.looking.command:main", "draw what the model is fed: batches, classes, sizes, crops"),
    "lr_find": ("dist_train.inference.rates.command:main", "find a learning rate for a config, by a short training"),
    "probe": ("dist_train.inference.probing.command:main", "compare models on your images, before you train one"),
    "pack": (
        "dist_train.data.packing.pack:main",
        "write images (a folder, parquet) as tar archives, for data.format=tar",
    ),
    "fetch": ("dist_train.fetch:main", "download the pretrained weights that a run starts from"),
    "evaluate": ("dist_train.evaluate:main", "evaluate runs on their validation or test set"),
    "predict": ("dist_train.predict:main", "predict images with the weights of a run, as CSV or parquet"),
    "calibrate": (
        "dist_train.inference.command_line:calibrate",
        "fit temperature and thresholds on a run's validation set",
    ),
    "average": ("dist_train.inference.averaging.command:main", "average the weights of runs, as a new run"),
    "report": (
        "dist_train.inference.reporting.command:main",
        "write one HTML page about a run: results, curves, mistakes",
    ),
    "export": ("dist_train.export:main", "write a run's model as safetensors and ONNX, or for timm and transformers"),
    "branch": ("dist_train.cli:branch", "begin a run from the weights of another one, with some keys changed"),
    "drill": ("dist_train.drill.__main__:main", "test on this machine that a run of your config survives kills"),
    "launch": ("launch.forked:main", "run a command on several ranks of this machine; starts faster than torchrun"),
    "compare": ("launch.compare:main", "compare runs: the settings that differ, and the results"),
    "slurm": ("launch.slurm:main", "submit a run or a sweep to SLURM"),
    "status": ("launch.status:main", "list the runs in a folder: state, step, best metric"),
    "wandb-sync": ("launch.wandb_sync:main", "upload offline runs to W&B"),
    "mlflow-sync": ("dist_train.loggers.mlflow.sync:main", "upload to MLflow what it lacks of runs that have ended"),
}
"""Name -> (``module:function`` from arguments to exit code, one line of help).

The module is imported only when its command is called, so the trainer does not depend on the launcher's commands."""

ON_RANKS = {
    "train": "dist_train.cli:train_parser",
    "branch": "dist_train.cli:branch_parser",
    "evaluate": "dist_train.evaluate:parser",
    "predict": "dist_train.predict:parser",
    "calibrate": "dist_train.inference.command_line:calibrate_parser",
    "lr_find": "dist_train.inference.rates.command:parser",
    "probe": "dist_train.inference.probing.command:parser",
}
"""The commands that several ranks share, and ``module:function`` of their parsers."""

EPILOG = """\
commands ({program} NAME --help):
{commands}

examples:
  {program} --example flowers > flowers.yaml
  {program} --config flowers.yaml --check
  torchrun --nproc_per_node=4 -m dist_train --config flowers.yaml optim.lr=3e-4 run.name=flowers-2

If a run was stopped or killed, the same command resumes it.
Exit codes: 0 done, 2 bad config or data, 75 stopped (run the command again), 1 any other
error. Under torchrun a stopped run exits with 0; result.json in the run folder says how it ended.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command that the first word names; without a command name, train.

    Returns:
        The exit code.
    """
    if not argv or argv[0].startswith("-") or "=" in argv[0]:
        return train(argv)
    name, rest = argv[0], list(argv[1:])
    if name not in COMMANDS:
        return report(ConfigError(_unknown(name)))
    if name in ("train", "branch", "launch"):
        return _run(COMMANDS[name][0], rest)
    return piped(lambda: _run(COMMANDS[name][0], rest))


def train(argv: Sequence[str]) -> int:
    """Train, or do what an option such as ``--check`` asks for.

    Returns:
        The exit code.
    """
    cfg = _config_of_training(argv)
    return cfg if isinstance(cfg, int) else run_training(cfg)


def config_for_ranks(argv: Sequence[str]) -> Config | int | None:
    """Return the config with which ranks train; None for another command; or the exit code, if no rank is needed.

    Raises:
        ConfigError: the command is for one process.
    """
    name = "train" if not argv or argv[0].startswith("-") or "=" in argv[0] else argv[0]
    if name not in ON_RANKS:
        raise ConfigError(f"`{name}` is not a command for several ranks; use one of: {', '.join(ON_RANKS)}")
    if name == "branch":
        return _config_of_branch(argv[1:])
    if name == "train":
        return _config_of_training(argv[argv[:1] == ["train"] :])
    _call(ON_RANKS[name]).parse_intermixed_args(argv[1:])  # an error here is printed once, before torch is imported
    return None


def _config_of_training(argv: Sequence[str]) -> Config | int:
    """Return the config to train, or the exit code of another answer."""
    parser = train_parser()
    args = parser.parse_intermixed_args(printing(argv))
    if args.world_size is not None and not args.check:
        parser.error("--world-size needs --check; to start N ranks use torchrun --nproc_per_node=N")
    try:
        if args.schema:
            return _print(json.dumps(json_schema(), indent=2))
        if args.example is not None:
            return _print(example(args.example) if args.example else listing())
        if args.recipes is not None:
            return _print(recipes.recipe(args.recipes) if args.recipes else recipes.listing())
        if args.list_models is not None:
            return piped(lambda: _run("dist_train.inference.describe_model:print_names", args.list_models))
        if args.config is None:
            if named := next((word for word in args.overrides if word.endswith((".yaml", ".yml"))), None):
                parser.error(f"write --config in front of {named}")
            parser.error(f"--config FILE is missing; `{program()} --example` lists configs to start from")
        cfg = load_config(args.config, args.overrides)
    except ConfigError as error:
        return report(error)
    if args.print_config:
        return _print(printed(cfg, args.print_config))
    if args.check:
        return piped(lambda: _run("dist_train.check:check_config", cfg, args.world_size or 1))
    if args.summary:
        return piped(lambda: _run("dist_train.inference.describe_model:print_model", cfg))
    return cfg


def train_parser() -> argparse.ArgumentParser:
    """Return the parser of a command line without a command name."""
    commands = "\n".join(f"  {name:12}{about}" for name, (_, about) in COMMANDS.items())
    parser = Parser(
        prog=program(),
        usage=f"{program()} --config FILE [key.path=value ...] [options]\n       {program()} COMMAND ...",
        description="Fine-tune a vision model from one YAML file, on one process or under torchrun.",
        epilog=EPILOG.format(program=program(), commands=commands),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="the YAML file that describes the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a value of the file")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--check", action="store_true", help="check config, data and model; print the plan")
    parser.add_argument(
        "--world-size", type=positive, metavar="N", help="with --check: number of ranks to plan for (1)"
    )
    modes.add_argument("--summary", action="store_true", help="print layers, trained parameters and FLOPs")
    modes.add_argument("--list-models", metavar="PATTERN", help="print model names; '*' prints all")
    _add_print_config(modes, "print what differs from the defaults; `all`: every key")
    modes.add_argument("--schema", action="store_true", help="print the config's JSON schema, for editors")
    modes.add_argument(
        "--example", nargs="?", const="", metavar="NAME", help="print an example config; without NAME, list all"
    )
    modes.add_argument(
        "--recipes", nargs="?", const="", metavar="NAME", help="print a recipe (`base: recipes/NAME`), or list all"
    )
    modes.add_argument("--version", action="version", version=f"dist_train {__version__}")
    return parser


def branch(argv: Sequence[str]) -> int:
    """Train a new run from the weights of another one. Return the exit code."""
    cfg = _config_of_branch(argv)
    return cfg if isinstance(cfg, int) else run_training(cfg)


def _config_of_branch(argv: Sequence[str]) -> Config | int:
    args = branch_parser().parse_intermixed_args(printing(argv))
    try:
        cfg = branched(args.run, args.name, args.weights, args.overrides, args.trust)
    except ConfigError as error:
        return report(error)
    if args.print_config:
        return _print(printed(cfg, args.print_config))
    if args.check:
        return piped(lambda: _run("dist_train.check:check_config", cfg, 1))
    return cfg


def branch_parser() -> argparse.ArgumentParser:
    """Return the parser of ``branch``."""
    parser = Parser(
        prog=program("branch"),
        description="Begin a run from the weights of another one: its config with the values that you change, its model "
        "with its trained weights, optimizer and schedule from step 0. The new run lies beside the other one. If it was "
        "stopped or killed, the same command resumes it.",
    )
    parser.add_argument("run", type=given_path, metavar="RUN", help="the folder of the run to begin from")
    parser.add_argument("--name", required=True, metavar="NEW", help="name of the new run (`run.name`)")
    parser.add_argument("--weights", choices=get_args(Which), default="best", help="which weights of RUN (best)")
    # Without a default, argparse names it among the arguments that are required.
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key.path=value", help="a value that differs from RUN's"
    )
    parser.add_argument("--trust", action="store_true", help="run code that lies in RUN, if its config names it")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--check", action="store_true", help="check config, data and model; print the plan")
    _add_print_config(modes, "print the new run's config, for slurm for example")
    return parser


def _add_print_config(modes: "argparse._MutuallyExclusiveGroup", about: str) -> None:
    modes.add_argument("--print-config", nargs="?", choices=EXTENTS, metavar="all", help=about)


def _unknown(name: str) -> str:
    if name.endswith((".yaml", ".yml")):
        return f"`{name}` is not a command; did you mean `{program()} --config {name}`?"
    if name == "help":
        return f"`help` is not a command; did you mean `{program()} --help` or `{program('COMMAND')} --help`?"
    if os.path.isdir(name):
        return f"`{name}` is a folder, not a command; for the folder of a run: `{program('evaluate')} {name}`"
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean `{program(near[0])}`?" if near else f"use one of: {', '.join(COMMANDS)}"
    return f"`{name}` is not a command; {hint}"


def _print(text: str) -> int:
    def write() -> int:
        print(text.rstrip("\n"))
        return EXIT_DONE

    return piped(write)


def _run(spec: str, *arguments: Any) -> int:
    """Import ``module:function``, call it, and return its exit code."""
    return int(_call(spec, *arguments))


def _call(spec: str, *arguments: Any) -> Any:
    module, _, function = spec.partition(":")
    return getattr(importlib.import_module(module), function)(*arguments)


def run_training(cfg: Config) -> int:
    """Train in this process, alone or as one of several ranks. Return the exit code."""
    if refused := prepare(cfg):
        return refused
    try:
        code = _run("dist_train.training.attempt:main", cfg)
        if code not in (EXIT_DONE, EXIT_STOPPED):
            leave_at_once(code)
        return code
    finally:
        # At exit Python restores the default signal handlers, and a late stop signal would kill a rank that has saved.
        ignore_stop_signals()
