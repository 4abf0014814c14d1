"""Read the tensors in a file of ``torch.save``, whatever other objects it holds. Nothing in the file is executed.

torch's safe loader stops at the first unknown class: timm's ``argparse.Namespace``, a NumPy number, a path. Here a
placeholder replaces such a class, so the tensors load and the other objects stay empty.
"""

import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

UNKNOWN = re.compile(r"GLOBAL ([\w.]+)")
"""Finds, in the error of torch's safe loader, the class or function at which it stopped."""


class NotLoadedError(Exception):
    """The file cannot be read safely.

    Attributes:
        classes: the names of classes and functions that torch's safe loader refused; may be incomplete.
    """

    def __init__(self, error: Exception, classes: list[str]) -> None:
        super().__init__((str(error) or type(error).__name__).splitlines()[0])
        self.classes = classes


def load_tensors(path: Path) -> tuple[Any, list[str]]:
    """Return what the file holds, and the names of the classes whose objects were left empty.

    Raises:
        NotLoadedError: torch's unpickler stopped.
    """
    unknown: list[str] = []
    try:
        if zipfile.is_zipfile(path):  # else the file is from torch < 1.6, and torch's error names one class
            unknown = sorted(get_unsafe_globals_in_checkpoint(path))
        stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (_empty_dict if name in _DICTS else _Placeholder, name) for name in unknown
        ]
        # Pass an open file: for a path, torch looks at its suffix.
        with path.open("rb") as file, safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickle protocols; if torch cannot read one, it raises
            return torch.load(file, map_location="cpu", weights_only=True), unknown
    except MemoryError:
        raise
    except Exception as error:  # on damaged bytes an unpickler can raise any error
        raise NotLoadedError(error, UNKNOWN.findall(str(error)) or unknown) from error


_DICTS = ("collections.defaultdict",)
"""Classes that are pickled as a call, and then filled like a dict."""


def _empty_dict(*args: Any) -> dict[Any, Any]:
    return {}


class _Calls(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return an object, as a pickled call of a class or function would."""
        return object.__new__(cls)  # type: ignore[arg-type]


class _Placeholder(metaclass=_Calls):
    """Replaces a class or function in the file: accepts all arguments and any state, and stores nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        # Pickle creates objects of most classes without a call. Config classes (yacs, EasyDict) then get items, and
        # torch's unpickler puts items only into an OrderedDict; it can set attributes on one, too.
        return OrderedDict()

    def __setstate__(self, state: Any) -> None:
        pass
