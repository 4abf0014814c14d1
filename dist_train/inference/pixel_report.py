"""What ``--check`` prints about pixels, from a sample of the training images."""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator

from dist_train.config.schema import Config
from dist_train.config.types import Size, in_pixels
from dist_train.data.augment.frame import Frame, describe_evaluation, evaluation_frame, training_frame
from dist_train.data.decode_rules import describe_rules
from dist_train.data.decoding.picture import BadImage, Picture
from dist_train.data.index import DataIndex
from dist_train.model.network import Network

OPENED, DECODED = 64, 8
"""The number of images whose sizes are read, and of those that are decoded."""

EFFECT = {"several pages or frames": "only the first is read", "transparency": "they are put on a white background"}

ONE_COLOUR = 2.0
"""An image whose pixels (0 to 255) have a smaller standard deviation than this counts as one colour."""


def describe_pixels(cfg: Config, index: DataIndex, network: Network) -> list[str]:
    """Return lines about the range of pixel values, the shape of the images, and images of one colour."""
    names = _sample(index)
    pictures = list(_opened(index, names))
    lines = [describe_rules(index.images.rules)]
    if pictures:
        frame = evaluation_frame(cfg, network)
        lines.append(describe_evaluation(frame, network))
        lines.append(_shape(cfg, frame, network.image_size, [picture.size for picture in pictures]))
    return [
        *lines,
        *_left_out(index, names),
        *_of_one_colour(pictures[:: max(1, len(pictures) // DECODED)], cfg.data.bits),
    ]


def _sample(index: DataIndex) -> list[str]:
    split = index.train
    wanted = min(OPENED, len(split))
    return [split.name(number * len(split) // wanted) for number in range(wanted)]


def _opened(index: DataIndex, names: list[str]) -> Iterator[Picture]:
    for name in names:
        with contextlib.suppress(BadImage):
            yield index.images.open(name)


def _left_out(index: DataIndex, names: list[str]) -> Iterator[str]:
    counts = Counter(kind for name in names for kind in index.images.left_out(name))
    if index.images.rules.channels == 4:
        counts.pop("transparency", None)
    for kind, count in counts.items():
        yield f"note: {count} of {len(names)} sampled training images have {kind}: {EFFECT[kind]}"


def _shape(cfg: Config, frame: Frame, trained: Size, sizes: list[tuple[int, int]]) -> str:
    height, width = sorted(sizes, key=lambda size: size[1] / size[0])[len(sizes) // 2]
    median = f"the median image ({width} x {height} px)"
    training = training_frame(cfg.augment, trained, frame.fill)
    lost = 100 * training.cut_away(height, width) if training else 0
    also = f"; training cuts {lost:.0f} % of it away" if lost else ""
    if frame.mode == "squash":
        shape = "a square" if frame.size[0] == frame.size[1] else in_pixels(frame.size)
        share = frame.cut_away(height, width)
        return (
            f"crop: evaluation squashes {median} to {shape}, and cuts {f'{100 * share:.0f} %' if share else 'nothing'} "
            f"away{also}"
        )
    if frame.mode == "pad":
        inner = (min(sides) for sides in zip(frame.resized(height, width), frame.size, strict=True))
        margin = 1 - math.prod(inner) / math.prod(frame.size)
        return f"crop: evaluation pads {median}: {100 * margin:.0f} % of the input is margin{also}"
    who = "training and evaluation cut" if cfg.augment.crop == "center" else "evaluation cuts"
    cut = 100 * frame.cut_away(height, width)
    hint = "; `augment.crop` and `eval.crop` squash or pad keep the whole image" if cut >= 10 else ""
    return f"crop: {who} {cut:.0f} % of {median} away{hint}"


def _of_one_colour(pictures: list[Picture], bits: int) -> Iterator[str]:
    spreads, means = [], []
    for picture in pictures:
        with contextlib.suppress(BadImage):
            pixels = picture.pixels()
            spreads.append(float(pixels.std()))
            means.append(float(pixels.mean()))
    if spreads and max(spreads) < ONE_COLOUR * (2**bits - 1) / 255:
        yield (
            f"note: each of the {len(spreads)} decoded training images has almost a single colour (mean "
            f"{sum(means) / len(means):.0f} of {2**bits - 1}); check the files and `data.value_range`"
        )
