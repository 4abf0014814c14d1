"""Small archives of images."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def image_bytes(colour: int = 0, kind: str = "PNG") -> bytes:
    """Return the file of an image of one colour."""
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(file, kind)
    return file.getvalue()


def tar_of(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    """Write a tar archive of files by name; ``mode`` as ``tarfile.open`` takes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def zip_of(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip archive of files by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by their relative paths."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}
