"""``python -m dist_train.evaluate RUN``: score the weights of a run on its validation set, exactly."""

import argparse
import sys
from pathlib import Path

from torch import nn

from dist_train.cli import report
from dist_train.config import Config, load_config
from dist_train.data.device import Normalise
from dist_train.data.index import scan
from dist_train.data.loader import evaluation_loader
from dist_train.distributed import Dist, joined
from dist_train.errors import EXIT_DONE, EXIT_STOPPED, ConfigError, DistTrainError
from dist_train.evaluation import evaluate
from dist_train.files import write_json
from dist_train.logs import log_to_console
from dist_train.precision import Precision
from dist_train.preempt import StopRequest
from dist_train.run_dir import RunDir
from dist_train.setup import build_network, set_algorithms
from dist_train.tensor_files import load_weights


def main(argv: list[str]) -> int:
    """Evaluate one run.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m dist_train.evaluate",
        description="Evaluate a run's weights. Under torchrun the ranks share the work, and the digits stay the same.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument("--weights", choices=("best", "last"), default="best", help="which of its weights (best)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the scores here too")
    args = parser.parse_args(argv)
    run = RunDir(args.run)
    try:
        cfg = load_config(run.config)
        with joined(cfg.distributed) as group:
            log_to_console(group.rank)
            scores = score(cfg, group, run.best if args.weights == "best" else run.last)
            if scores is None:
                return EXIT_STOPPED
            if group.is_main:
                print("  ".join(f"{name} {value!r}" for name, value in scores.items()))
                if args.json:
                    write_json(args.json, scores)
    except DistTrainError as error:
        return report(error)
    return EXIT_DONE


def score(cfg: Config, group: Dist, weights: Path) -> dict[str, float] | None:
    """Metrics of a weights file on the validation set; None if a signal stopped it.

    Raises:
        ConfigError, DataError: the weights or the data are not what the config describes.
    """
    set_algorithms(cfg)
    index = group.from_main(lambda: scan(cfg.data))
    network = build_network(cfg, index, group, load=False)
    with group.together():
        _load_all(network.module, weights)
    normalise = Normalise(network, group.device, cfg.model.channels_last)
    loader = evaluation_loader(cfg, group, index, network)
    precision = Precision(cfg.train, group.device)
    found = evaluate(network.module, loader, len(index.val), group, normalise, precision, StopRequest(group))
    return None if found is None else found.scores


def _load_all(module: nn.Module, weights: Path) -> None:
    try:
        module.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        raise ConfigError(f"{weights} does not fit the model of the run: {str(error).splitlines()[0]}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
