"""The tensors in a file of ``torch.save``, whatever else lies beside them. Nothing in the file is ever executed.

torch's safe loader stops at the first class that it does not know: timm's ``argparse.Namespace``, a NumPy number, a
path. Here such a class is replaced by a placeholder, so that the tensors load and the other objects stay empty.
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
"""Where torch's safe loader names the class or function that it stops at."""


class NotLoadedError(Exception):
    """The file cannot be read safely.

    Attributes:
        classes: the classes and functions in it that torch does not know, as far as they are known.
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
        if zipfile.is_zipfile(path):  # else it is of torch before 1.6, and torch's loader names the first one
            unknown = sorted(get_unsafe_globals_in_checkpoint(path))
        stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (_empty_dict if name in _DICTS else _Placeholder, name) for name in unknown
        ]
        # An open file: torch judges a path by its ending.
        with path.open("rb") as file, safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that torch may not know: it raises where it does not
            return torch.load(file, map_location="cpu", weights_only=True), unknown
    except MemoryError:
        raise
    except Exception as error:  # unpicklers raise whatever other bytes lead them to
        raise NotLoadedError(error, UNKNOWN.findall(str(error)) or unknown) from error


_DICTS = ("collections.defaultdict",)
"""What is pickled as a call, and then filled like a dict."""


def _empty_dict(*args: Any) -> dict[Any, Any]:
    return {}


class _Calls(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an object as a pickled call of a class or function does."""
        return object.__new__(cls)  # type: ignore[arg-type]


class _Placeholder(metaclass=_Calls):
    """Stands for a class or function of the file: takes every argument and every state, and keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        # Pickle makes objects of most classes without a call. torch's unpickler fills items only into an OrderedDict,
        # which classes of configs (yacs, EasyDict) need, and it gives attributes to one as well.
        return OrderedDict()

    def __setstate__(self, state: Any) -> None:
        pass
