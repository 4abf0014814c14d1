"""Cut the demo's subset out of Fashion-MNIST (Debian package dataset-fashion-mnist): python tests/data/make_fashion_mnist.py

100 training and 50 test images of each class, the first of each in the original order, as PNG files.
"""

import gzip
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SOURCE = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
SPLITS = (("train", "train", 100), ("val", "t10k", 50))


def main() -> None:
    target = Path(__file__).with_name("fashion_mnist.tar.gz")
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for split, prefix, count in SPLITS:
            images = np.frombuffer(_idx(f"{prefix}-images-idx3-ubyte.gz", 16), np.uint8).reshape(-1, 28, 28)
            labels = np.frombuffer(_idx(f"{prefix}-labels-idx1-ubyte.gz", 8), np.uint8)
            for label, name in enumerate(CLASSES):
                for number in np.flatnonzero(labels == label)[:count]:
                    png = io.BytesIO()
                    Image.fromarray(images[number]).save(png, "PNG", optimize=True)
                    entry = tarfile.TarInfo(f"{split}/{name}/{number:05d}.png")
                    entry.size = png.tell()
                    archive.addfile(entry, io.BytesIO(png.getvalue()))
    target.write_bytes(gzip.compress(raw.getvalue(), mtime=0))
    print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB", file=sys.stderr)


def _idx(name: str, header: int) -> bytes:
    return gzip.decompress((SOURCE / name).read_bytes())[header:]


if __name__ == "__main__":
    main()
