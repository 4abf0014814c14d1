"""``python -m dist_train statistics --config FILE``: mean and standard deviation of the channels of one's own training images."""

import argparse
from typing import TYPE_CHECKING

from dist_train.config.load import load_config
from dist_train.config.schema import Config
from dist_train.config.types import in_pixels
from dist_train.errors import EXIT_DONE, DistTrainError
from dist_train.system.program import Parser, program
from dist_train.system.terminal import positive, report

if TYPE_CHECKING:
    from dist_train.data.index import DataIndex
    from dist_train.model.network import Network


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=program("statistics"),
        description="Compute the mean and standard deviation of each channel of the training images, resized and cut as in an "
        "evaluation, and print them as lines for the config (`data.mean`, `data.std`). Writes no files.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the YAML file that describes the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a value of the file")
    parser.add_argument(
        "--max-images", type=positive, metavar="N", help="at most so many images, at even distances (all)"
    )
    return parser


def main(argv: list[str]) -> int:
    """Print the statistics. Return the exit code."""
    args = parser().parse_intermixed_args(argv)
    try:
        return print_statistics(load_config(args.config, args.overrides), args.max_images)
    except DistTrainError as error:
        return report(error)


def print_statistics(cfg: Config, most: int | None) -> int:
    """Print mean and standard deviation as YAML. Return the exit code.

    Args:
        most: the largest number of images to read; None means all.

    Raises:
        DistTrainError: the config or the data is wrong, or a channel has one value everywhere.
    """
    # They import torch, which --help does not need.
    from dist_train.data.decode_rules import decide_rules
    from dist_train.data.index import scan
    from dist_train.data.loader import end_loaders
    from dist_train.run.folder import RunDir
    from dist_train.system.progress import shown

    index = scan(cfg.data)
    index = index.with_rules(decide_rules(cfg.data, index, RunDir.of(cfg.run), resumed=False))
    count = min(len(index.train), most or len(index.train))
    try:
        with shown("computing the mean of the training images", "images", count):
            print(_statistics(cfg, index, count))
    finally:
        end_loaders()
    return EXIT_DONE


def _statistics(cfg: Config, index: "DataIndex", count: int) -> str:
    import torch

    from dist_train.data.bad_images import BadImages
    from dist_train.data.loader import evaluation_loader, on_device
    from dist_train.data.pipeline import validation_images
    from dist_train.data.report.channel_sums import ChannelSums
    from dist_train.data.sampler import EvaluationBatches
    from dist_train.system.progress import advance

    cfg, index = _without_margins(cfg), _part(index, count)
    network = network_without_weights(cfg, index)
    images = validation_images(cfg, index, network, BadImages(cfg.data, index))
    batches = EvaluationBatches(count, cfg.eval.batch_size, rank=0, world_size=1)
    sums, read, cpu = ChannelSums(cfg.data.channels), 0, torch.device("cpu")
    for pixels_BHWC, _, indices in on_device(evaluation_loader(cfg.data, images, batches, cpu), cpu):
        for image in pixels_BHWC[indices < count].numpy():  # the others cannot be read
            sums.add(image)
            read += 1
            advance()
    mean, std = sums.mean_and_std(2**cfg.data.bits - 1)
    size = (pixels_BHWC.shape[1], pixels_BHWC.shape[2])
    return (
        f"# {read:,} training images, {in_pixels(size)}\n"
        f"data:\n  mean: [{', '.join(f'{value:.5g}' for value in mean)}]\n  std: [{', '.join(f'{value:.5g}' for value in std)}]"
    )


def network_without_weights(cfg: Config, index: "DataIndex") -> "Network":
    """Return the model, which knows the size of its images, without memory for its weights. A few models need the CPU instead."""
    import torch

    from dist_train.model.build import build_model

    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                channels = cfg.data.channels
                return build_model(cfg.model, index.outputs, cfg.data.image_size, load=False, channels=channels)
        except (DistTrainError, RuntimeError):
            if device == "cpu":
                raise
    raise AssertionError("unreachable")


def _without_margins(cfg: Config) -> Config:
    """Return the config with the whole image resized where it would be padded, and with any statistics."""
    data = cfg.data.model_copy(update=dict.fromkeys(("mean", "std"), (0.5,) * cfg.data.channels))
    padded = cfg.eval.crop == "pad" or (cfg.eval.crop in ("auto", "published") and cfg.augment.crop == "pad")
    evaluation = cfg.eval.model_copy(update={"crop": "squash"}) if padded else cfg.eval
    return cfg.model_copy(update={"data": data, "eval": evaluation})


def _part(index: "DataIndex", count: int) -> "DataIndex":
    """Return the index with ``count`` training images, at even distances, in the place of the validation images."""
    from dataclasses import replace

    import numpy as np

    places = np.arange(count) * len(index.train) // count
    return replace(index, val=index.train.part(places))
