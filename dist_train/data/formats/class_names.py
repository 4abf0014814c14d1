"""Names of classes: their order, which are equal, which look alike, and which stand for a missing value."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from dist_train.errors import DataError

MISSING = frozenset(
    ("nan", "-nan", "<na>", "#n/a", "#na", "#n/a n/a", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "nat")
)
"""How programs write a missing value, in lower case; no one calls a class so."""

PERHAPS_MISSING = frozenset(("na", "n/a", "null", "none"))
"""These are names of real classes too."""

NAMED = 5
"""So many names stand in a message."""

LONGEST_SHOWN = 60
"""Characters of a name or value that stand in a message."""


def natural(name: str) -> tuple[int, int, str, str]:
    """Return a sort key: whole numbers by value, then names.

    Digits are compared as text: int() refuses more than 4,300 of them.
    """
    if not name.isdecimal():
        return (1, 0, name, "")
    digits = "".join(str(unicodedata.decimal(digit)) for digit in name).lstrip("0")
    return (0, len(digits), digits, name)


def composed(name: str) -> str:
    """Return the NFC form: macOS writes "é" as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


class Labels:
    """Class names -> indices. A name in another Unicode form is the same name."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._exact = {name: label for label, name in enumerate(classes)}
        self._composed = {composed(name): label for label, name in enumerate(classes)}

    def find(self, name: str) -> int | None:
        """Return the index of a class; None if the name is unknown."""
        label = self._exact.get(name)
        return self._composed.get(composed(name)) if label is None else label


def same_names(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that differ in nothing but their Unicode form."""
    return _groups(names, composed)


def alike_names(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that a reader takes for the same: `Cat` and `cat`, `01` and `1`."""
    return _groups(names, _looks)


def _groups(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _looks(name: str) -> str:
    visible = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    text = " ".join(visible.casefold().replace("_", " ").split())
    whole, _, fraction = text.partition(".")
    if whole.isdecimal() and not fraction.strip("0"):
        return whole.lstrip("0") or "0"
    return text


def few(names: Sequence[str]) -> str:
    """Return the first names, for a message."""
    more = f", ... ({len(names)})" if len(names) > NAMED else ""
    return ", ".join(map(shortened, names[:NAMED])) + more


def shortened(text: str) -> str:
    """Return ``text``, or its beginning, for a message: a quote that is never closed makes a value of a whole table."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


class ClassFolders:
    """Names of images with the class as a folder, which a reader of folders neither hides nor takes for another class."""

    def __init__(self) -> None:
        self._class_of: dict[str, str] = {}

    def name(self, split: str, class_name: str, path: str) -> str:
        """Return ``<split>/<class>/<path>``; without a split ``<class>/<path>``.

        Args:
            path: of the image; what leads out of a folder is left out.

        Raises:
            DataError: another class has the same folder.
        """
        folder = _visible(class_name.strip().replace("/", "_"))
        other = self._class_of.setdefault(folder, class_name)
        if other != class_name:
            raise DataError(
                f"the classes {other!r} and {class_name!r} would be one folder ({folder}); rename one of them"
            )
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        return "/".join([*([split] if split else []), folder, *map(_visible, parts)])


def _visible(name: str) -> str:
    """Return the name of a file or folder that is not hidden."""
    name = name.replace("\0", "_")
    return f"_{name[1:]}" if name.startswith(".") else "___MACOSX" if name.upper() == "__MACOSX" else name or "_"
