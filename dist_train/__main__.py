"""``python -m dist_train`` and ``dist-train``, with or without torchrun in front."""

import os
import sys

from dist_train.system.fast_imports import quick_imports

with quick_imports():
    from dist_train import cli


def script() -> int:
    """Run the console script, which finds the user's modules in the current folder, as ``python -m`` does."""
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:]))
