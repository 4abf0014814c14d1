"""Compare six real runs: head only and all layers at three learning rates, on the data of ``make demo``.

``python -m benchmarks.compare_demo`` trains them with two ranks (about 4 minutes on 2 CPU cores; it skips finished runs)
and writes runs/compare-demo/compare.html and docs/compare.png.
"""

import os
import subprocess
import sys

from benchmarks.demo import CONFIG, ROOT, prepare
from launch import compare

FOLDER = ROOT / "runs" / "compare-demo"
PICTURE = ROOT / "docs" / "compare.png"
FREEZE = {"all-layers": "none", "head-only": "backbone"}
LEARNING_RATES = ("0.003", "0.01", "0.03")


def train(name: str, freeze: str, lr: str) -> None:
    """Train one run under torchrun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    overrides = [f"run.name={name}", f"run.output_dir={FOLDER}", f"model.freeze={freeze}", f"optim.lr={lr}"]
    command = [*launcher, "-m", "dist_train", "--config", str(CONFIG), *overrides]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})


def main() -> int:
    prepare()
    for title, freeze in FREEZE.items():
        for lr in LEARNING_RATES:
            train(f"{title}-lr{lr}", freeze, lr)
    names = [str(FOLDER / "*-lr*")]
    return compare.main([*names, "--html", str(FOLDER / "compare.html"), "--png", str(PICTURE)])


if __name__ == "__main__":
    sys.exit(main())
