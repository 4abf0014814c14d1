"""The command ``python -m dist_train look``: a picture of the data of a run, through the run's own pipeline."""

import importlib.util
from pathlib import Path

from dist_train.config.load import parse_config
from dist_train.config.planning import make_plan
from dist_train.config.schema import Config
from dist_train.data.augment.frame import describe_evaluation, evaluation_frame
from dist_train.data.decode_rules import decide_rules, describe_rules
from dist_train.data.formats.walk import look_at_root
from dist_train.data.index import scan
from dist_train.data.loader import end_loaders
from dist_train.data.looking.page import Look, png
from dist_train.data.looking.samples import evaluation_batch, training_batch
from dist_train.data.looking.shapes import describe, shapes_of
from dist_train.data.pipeline import open_data
from dist_train.data.report.channel_statistics import network_without_weights
from dist_train.data.report.description import describe as describe_data
from dist_train.distributed.group import Dist
from dist_train.errors import EXIT_DONE, ConfigError
from dist_train.model.network import statistics
from dist_train.run.folder import RunDir
from dist_train.system.files import atomic_write
from dist_train.system.terminal import check_output, check_suffix, log_to_console, wrapped, writing_output
from dist_train.training.step import micro_keys

NOT_CACHED = (
    "note: `augment.device`: the picture shows the same draws, made by the CPU from the whole images, without the cache"
)


def look(cfg: Config, out: Path | None, most: int, world_size: int) -> int:
    """Draw the picture into ``out``, and print what it shows in words. Return the exit code.

    Args:
        most: images of each split.
        world_size: of the run whose first batch is drawn.

    Raises:
        DistTrainError: the config or the data is wrong, or the picture cannot be drawn.
    """
    log_to_console(0)
    path = out or Path(cfg.run.output_dir) / f"{cfg.run.name}-look.png"
    _can_draw(path)
    look_at_root(cfg.data)
    lines, drawn = seen(cfg, most, world_size)
    print(wrapped(lines))
    with writing_output("--out", path), atomic_write(path) as file:
        file.write(png(drawn))
    print(f"picture: {path}")
    return EXIT_DONE


def seen(cfg: Config, most: int, world_size: int) -> tuple[list[str], Look]:
    """Return lines for the terminal, and what to draw. For the arguments see ``look``.

    Raises:
        DistTrainError: the config or the data is wrong.
    """
    index = scan(cfg.data, strict=False)
    index = index.with_rules(decide_rules(cfg.data, index, RunDir.of(cfg.run), resumed=False))
    network = network_without_weights(cfg, index)
    plan, alone = make_plan(cfg, len(index.train), world_size), Dist.alone()
    try:
        data = open_data(_in_this_process(cfg), alone, index, network)
        training = training_batch(data, plan, micro_keys(cfg.run.seed, 0, 1, alone.rank)[0], most)
        evaluation = evaluation_batch(data, most)
    finally:
        end_loaders()
    frame = evaluation_frame(cfg, network)
    shapes = shapes_of(index, frame)
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in statistics(cfg.data, network))
    lines = [
        *describe_data(index),
        describe_rules(index.images.rules),
        describe_evaluation(frame, network),
        *describe(shapes),
        f"normalised by mean {mean} and std {std} (`data.mean`, `data.std`, or the model's)",
        *([NOT_CACHED] if cfg.augment.device else []),
    ]
    title = f"{cfg.run.name}: {cfg.model.name}, seed {cfg.run.seed}; normalised by mean {mean}, std {std}"
    return lines, Look(title, index, training, evaluation, shapes)


def _in_this_process(cfg: Config) -> Config:
    """Return the config without loader processes, and without a cache of decoded images, which takes long to build."""
    tree = cfg.model_dump(mode="json")
    tree["data"] |= {"workers": 0, "cache": None}
    tree["augment"]["device"] = False
    return parse_config(tree)


def _can_draw(path: Path) -> None:
    """Raise ConfigError if matplotlib is missing or the file cannot be written."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("look needs matplotlib: pip install matplotlib, or the extra `plots`")
    check_suffix("--out", path, (".png",))
    check_output("--out", path)
