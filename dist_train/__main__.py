"""``python -m dist_train``, with or without torchrun in front. torch is imported only when it is needed."""

import sys

from dist_train import cli
from dist_train.config import Config


def _train(cfg: Config) -> int:
    from dist_train.train import main

    return main(cfg)


def _check(cfg: Config, world_size: int) -> int:
    from dist_train.check import main

    return main(cfg, world_size)


if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:], _train, _check))
