"""``dist-train launch``: start the ranks of one machine by fork, after one import of torch for all of them.

Under torchrun each rank imports torch, timm and this package itself, and torchrun imports torch before it starts them.
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Container, Sequence
from typing import TextIO, cast

from dist_train.config import Config
from dist_train.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, ConfigError, DistTrainError
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.system.program import Parser, program
from dist_train.system.terminal import piped, report, whole
from launch.node import counts
from launch.node.ranks import Ranks, Signals, Start


def main(argv: Sequence[str]) -> int:
    """Run a command line of the trainer on several ranks. Return 75 after a stop, else the exit code of the first failure, or 0."""
    trainer = importlib.import_module("dist_train.cli")  # by name: the launcher's modules import nothing of the trainer
    if (place := _command_before_help(argv, trainer.ON_RANKS)) is not None:
        return int(trainer.main(argv[place:]))
    own, line = parser().parse_known_args(argv)
    line = line[line[:1] == ["--"] :]
    try:
        _refuse_ranks()
        cfg = trainer.config_for_ranks(line)
        if isinstance(cfg, int):
            return cfg
        count = counts.count(own.nproc_per_node)
    except ConfigError as error:
        return report(error)
    _prepare(count)
    if code := piped(lambda: int(trainer.prepare(cfg))):
        return code
    signals = Signals()
    for restart in range(own.max_restarts + 1):
        ranks = Ranks(Start(count, restart, own.max_restarts), signals)
        try:
            is_rank = ranks.fork()
        except DistTrainError as error:
            return report(error)
        if is_rank:
            return int(trainer.main(line) if cfg is None else trainer.run_training(cfg))
        failure = ranks.watch()
        if failure is None or failure.hopeless or signals.names:
            break
        left = own.max_restarts - restart
        _say(f"{failure}; starting all ranks again, {left} restart(s) left" if left else f"{failure}; no restart left")
    code = failure.code if failure else EXIT_DONE
    return _code(code, signals.names, cfg) if cfg is not None else _code_of_command(code, signals)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options of ``launch``; the trainer parses all others."""
    made = Parser(
        prog=program("launch"),
        usage=f"{program('launch')} --nproc-per-node N|gpu|cpu|auto [--max-restarts N]\n"
        "           [COMMAND] --config FILE [key.path=value ...]",
        description="Run a command on several ranks of this machine, as `torchrun --nproc-per-node=N -m dist_train ...` does, "
        "with the same weights, a faster start and less memory: torch is imported once, and the ranks are forked. COMMAND is "
        "train (the default), or another one that works on several ranks.",
        epilog="Exit codes: 0 done, 2 bad config or data, 75 stopped (run the command again), 1 any other error. "
        "Several machines: torchrun on each, or `slurm`.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--nproc-per-node", "--nproc_per_node", type=counts.ranks, required=True, metavar="N",
        help="number of ranks; gpu: one for each GPU, cpu: one for each CPU, auto: gpu, or cpu where there are no GPUs",
    )  # fmt: skip
    made.add_argument(
        "--max-restarts", "--max_restarts", type=whole, default=0, metavar="N",
        help="how often all ranks start again when one has died (0)",
    )  # fmt: skip
    return made


def _command_before_help(argv: Sequence[str], commands: Container[str]) -> int | None:
    """Return the place of the command whose help is asked for; None if no help is asked for, or that of ``launch``."""
    asked = next((place for place, word in enumerate(argv) if word in ("-h", "--help")), None)
    return next((place for place, word in enumerate(argv[:asked]) if word in commands), None) if asked else None


def _refuse_ranks() -> None:
    for name in ("RANK", "WORLD_SIZE"):
        if name in os.environ:
            raise ConfigError(
                f"{name}={os.environ[name]} is set: `launch` starts the ranks itself, without torchrun; if no torchrun runs, "
                "`unset RANK WORLD_SIZE LOCAL_RANK`"
            )


def _prepare(ranks: int) -> None:
    """Set what torchrun sets for its ranks, before torch is imported."""
    if ranks > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # ranks share them: whole lines do not mix


def _code(code: int, stops: Sequence[str], cfg: Config) -> int:
    """Return the exit code of a training; a rank that has stopped ends with 0, as under torchrun."""
    recorded = read_result(RunDir.of(cfg.run)).get("status") == "stopped"
    if (stops and code <= EXIT_DONE) or (recorded and code == EXIT_DONE) or code == EXIT_STOPPED:
        return EXIT_STOPPED
    return EXIT_FAILED if code < 0 else code


def _code_of_command(code: int, signals: Signals) -> int:
    """Return the exit code of a command that cannot be resumed. Killed by a signal, it ends as without ``launch``: by the same one."""
    killer = signal.Signals(-code) if code < 0 else None
    if killer is not None and killer.name in signals.names:
        signal.signal(killer, signal.SIG_DFL)
        signals.release()
        os.kill(os.getpid(), killer)
    return EXIT_FAILED if code < 0 else code


def _say(text: str) -> None:
    print(text, file=cast(TextIO, sys.stderr), flush=True)
