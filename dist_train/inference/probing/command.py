"""``python -m dist_train probe --config FILE --models NAME,NAME [key.path=value ...]``: the command line. Without torch."""

import argparse

from dist_train.config.load import load_config
from dist_train.inference.command_line import reported
from dist_train.inference.probing.candidates import candidates
from dist_train.system.program import Parser, program
from dist_train.system.streams import texts_beside
from dist_train.system.terminal import output_file


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=program("probe"),
        description="Compare models on your images before you train one: compute what each model gives to its head (its features), "
        "once for each training and validation image, as an evaluation sees it; then score nearest neighbours and a linear "
        "model on the features. Works under torchrun too. It writes no run folder. Needs scikit-learn.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the YAML file with data, metric and model")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a value of the file")
    parser.add_argument(
        "--models",
        metavar="MODELS",
        help="names as in model.name, separated by commas. NAME=FILE takes the weights from a file; timm:NAME and torchvision:NAME "
        "take another library than model.source. Default: the config's model",
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="also write the figures to FILE, with all digits"
    )
    return parser


def main(argv: list[str]) -> int:
    """Compare the models. Return the exit code."""
    args = parser().parse_intermixed_args(argv)

    def compare() -> int:
        cfg = load_config(args.config, args.overrides)
        chosen = candidates(cfg, args.models)
        from dist_train.inference.probing.probe import probe  # imports torch, which --help does not need

        with texts_beside(args.json):
            return probe(cfg, chosen, f"--config {args.config}", args.json)

    return reported(compare)
