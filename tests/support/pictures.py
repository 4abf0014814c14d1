"""A data set object of a program's own."""

from pathlib import Path

from PIL import Image

NAMES = ["class_a", "class_b", "class_c"]


class Pictures:
    """The files below a folder of classes, as PIL images."""

    def __init__(self, root: Path, classes: list[str]) -> None:
        self.files = [file for name in NAMES for file in sorted((root / name).iterdir())]
        self.targets = [NAMES.index(file.parent.name) for file in self.files]
        self.classes = classes

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        return Image.open(self.files[number]), self.targets[number]
