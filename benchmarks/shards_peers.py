"""The sides of benchmarks/shards.py: the bytes of photographs, and a part of each, as this project and other programs read them.

timm's reader of tar archives (any order), webdataset (the order of the archive, shuffled in a buffer of 1,000), LitData's
``StreamingDataset`` (shuffled; chunks that its ``optimize`` has written) and Hugging Face ``datasets`` (any order). They decode by Pillow.
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import measure
from benchmarks.measure import Row
from dist_train.data.index import DataIndex

BOX = (60, 90, 224, 224)
"""Top, left, height and width of the part that is decoded."""

Side = Callable[[], Iterator[bytes]]
"""Yields the bytes of each photograph once."""

CROP = "photographs to a crop of 224"


def beside_peers(folder: Path, rounds: int, ours: Mapping[str, DataIndex]) -> list[Row]:
    """Return images per second of CPU time beside other programs: bytes alone, and decoded to a crop.

    Args:
        folder: with the photographs in class folders (``in``), tar archives (``tar``) and an Arrow file (``arrow``).
        ours: the indices of tar and Arrow.
    """
    peers = {
        "timm's ReaderImageInTar": ("tar", timm(folder / "tar")),
        "webdataset, a stream": ("tar", webdataset_stream(folder / "tar")),
        "LitData, a stream": ("tar", litdata_stream(folder)),
        "datasets": ("Arrow", hugging_face(folder / "arrow")),
    }
    rows = []
    for what, work in (("bytes of photographs", len), (CROP, cropped)):
        sides = {form: side_of(index, work) for form, index in ours.items()}
        sides |= {name: lambda side=side, work=work: per_second(side(), work) for name, (_, side) in peers.items()}  # type: ignore[misc]
        figures = measure.interleaved(sides, rounds)
        found = measure.medians(figures)
        for name, (form, _) in peers.items():
            ratio = measure.ratio_of(figures, form, name)
            rows.append(Row(f"{what}, {form}", "images/s", found[form], found[name], name, ratio))
    return rows


def side_of(index: DataIndex, work: Callable[[bytes], Any]) -> Callable[[], float]:
    """Return the measurement of this project's reader: it decodes a part by itself."""
    return (lambda: rate(index)) if work is cropped else (lambda: per_second(contents(index), work))


def rate(index: DataIndex) -> float:
    """Return images per second of CPU time, decoded to a part."""
    opened = index.opener("train")
    began = time.process_time()
    for number in in_any_order(len(index.train)):
        opened(number).pixels(BOX)
    return len(index.train) / (time.process_time() - began)


def contents(index: DataIndex) -> Iterator[bytes]:
    images: Any = index.images
    return (images.content(index.train.name(number)) for number in in_any_order(len(index.train)))


def timm(folder: Path) -> Side:
    from timm.data.readers.reader_image_in_tar import ReaderImageInTar

    reader = ReaderImageInTar(str(folder), cache_tarinfo=False)
    return lambda: (reader[number][0].read() for number in in_any_order(len(reader)))


def webdataset_stream(folder: Path) -> Side:
    import webdataset

    archives = sorted(map(str, folder.glob("*.tar")))
    return lambda: (sample["jpg"] for sample in webdataset.WebDataset(archives, shardshuffle=False).shuffle(1000))


def litdata_stream(folder: Path) -> Side:
    import litdata

    files, output = sorted(map(str, (folder / "in").rglob("*.jpg"))), str(folder / "litdata")
    litdata.optimize(litdata_sample, files, output_dir=output, chunk_bytes="512MB", num_workers=1)
    images = litdata.StreamingDataset(output, shuffle=True)
    return lambda: (sample["image"] for sample in images)


def litdata_sample(path: str) -> dict[str, bytes]:
    """Return what LitData keeps of a file."""
    return {"image": Path(path).read_bytes()}


def hugging_face(folder: Path) -> Side:
    import datasets

    images = datasets.Dataset.from_file(str(next(folder.rglob("*.arrow"))))
    return lambda: (images[number]["image"]["bytes"] for number in in_any_order(len(images)))


def in_any_order(count: int) -> list[int]:
    order: list[int] = np.random.default_rng(0).permutation(count).tolist()
    return order


def per_second(contents: Iterator[bytes], work: Callable[[bytes], Any]) -> float:
    """Return images per second of CPU time."""
    began, count = time.process_time(), 0
    for content in contents:
        work(content)
        count += 1
    return count / (time.process_time() - began)


def cropped(content: bytes) -> Any:
    """Decode an image as other loaders do, by Pillow and as a whole, and return the part."""
    top, left, height, width = BOX
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(image.crop((left, top, left + width, top + height)))
