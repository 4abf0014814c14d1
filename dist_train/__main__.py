"""``python -m dist_train``, with or without torchrun in front. torch is imported only when it is needed."""

import os
import signal
import sys

from dist_train.system.fast_imports import quick_imports

with quick_imports():
    from dist_train import cli
    from dist_train.config import Config
    from dist_train.errors import EXIT_DONE, EXIT_STOPPED
    from dist_train.system.processes import die_with_parent, leave_at_once
    from dist_train.system.terminal import piped


def _train(cfg: Config) -> int:
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # A torchrun that is killed leaves its ranks behind. To them its death is a stop signal: they save and leave.
        die_with_parent(signal.SIGUSR2)
    with quick_imports():
        from dist_train.system.signals import ignore_stop_signals
        from dist_train.training.attempt import main

    try:
        code = main(cfg)
        if code not in (EXIT_DONE, EXIT_STOPPED):
            leave_at_once(code)
        return code
    finally:
        # An exiting interpreter gives signals back their default, death: a rank that has saved must not meet it.
        ignore_stop_signals()


def _check(cfg: Config, world_size: int) -> int:
    from dist_train.check import main

    return main(cfg, world_size)


def _summary(cfg: Config) -> int:
    from dist_train.summary import main

    return piped(lambda: main(cfg))


def _list_models(pattern: str) -> int:
    from dist_train.summary import list_names

    return piped(lambda: list_names(pattern))


if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:], cli.Actions(_train, _check, _summary, _list_models)))
