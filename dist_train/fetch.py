"""``python -m dist_train.fetch --config FILE``: download pretrained weights on a machine with network (a login node)."""

import sys

from dist_train.config.load import load_config
from dist_train.config.schema import Config
from dist_train.config.sections.model import ModelConfig
from dist_train.errors import EXIT_DONE, DistTrainError
from dist_train.system.program import Parser, program, run_program
from dist_train.system.terminal import report


def main(argv: list[str]) -> int:
    """Download the published weights of ``model.name``, and of a teacher, into the cache that training reads.

    Returns:
        The exit code.
    """
    parser = Parser(
        prog=program("fetch"),
        description="Download the pretrained weights that a run starts from into the cache. Needs network.",
        epilog="The cache is that of timm (HF_HOME moves it) or torchvision (TORCH_HOME). All nodes of a job must see it: "
        "put it into a shared folder.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the YAML file that describes the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a value of the file")
    args = parser.parse_intermixed_args(argv)
    try:
        cfg = load_config(args.config, args.overrides)
        print(fetch(cfg))
        if (line := fetch_teacher(cfg)) is not None:
            print(line)
    except DistTrainError as error:
        return report(error)
    return EXIT_DONE


def fetch(cfg: Config) -> str:
    """Download the weights. Return the line to print: where the file is, or why there is nothing to download.

    Raises:
        ConfigError: there are no published weights, or the download failed.
    """
    from dist_train.model.pretrained import obtain_description

    obtain_description(cfg.model)
    if cfg.model.weights is not None:
        return f"nothing to fetch: the run starts from `model.weights` ({cfg.model.weights})"
    if not cfg.model.pretrained:
        return "nothing to fetch: `model.pretrained` is false"
    return _fetched(cfg.model)


def fetch_teacher(cfg: Config) -> str | None:
    """Download the weights of ``loss.distill.teacher``. Return the line to print; None if no published model teaches.

    Raises:
        ConfigError: as ``fetch``.
    """
    if cfg.loss.distill is None:
        return None
    from dist_train.learning.distillation.teacher import is_run, teacher_model

    if is_run(cfg.loss.distill.teacher):
        return None
    return f"teacher: {_fetched(teacher_model(cfg.loss.distill.teacher))}"


def _fetched(cfg: ModelConfig) -> str:
    from dist_train.model.pretrained import obtain, obtain_description, published

    obtain_description(cfg)
    there = published(cfg).cached()
    if there is not None:
        return f"already there: {there}"
    path, source = obtain(cfg)
    return f"fetched {source} as {path}"


if __name__ == "__main__":
    sys.exit(run_program(main))
