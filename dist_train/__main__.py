"""``python -m dist_train`` and ``dist-train``, alone or under torchrun."""

import os
import sys

from dist_train.system.imports.fast_imports import quick_imports
from dist_train.system.streams import open_missing

open_missing()

with quick_imports():
    from dist_train import cli


def script() -> int:
    """Run the console script ``dist-train``. Like ``python -m``, it finds the user's modules in the current folder."""
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:]))
