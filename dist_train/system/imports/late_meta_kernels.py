"""Import torch's meta kernels in Python, ``torch._meta_registrations``, at the first tensor on the device "meta": most runs have none.

Every ``import torch`` imports them, for 0.2 s of CPU time and 19 MB in each process (``benchmarks/results/startup.md``).
"""

import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from dist_train.system.imports.imported import imported_meanwhile

KERNELS = "torch._meta_registrations"
COMPANIONS = ("torch._decomp", "torch._prims", "torch._refs", "torch.utils._content_store")
"""What the kernels import, and what imports them in a circle: Python can only import the kernels first."""
FIRST = (("empty", "memory_format"), ("empty_strided", "default"))
"""The operators of torch, with their overloads, that make a tensor on the device "meta" where none was."""
TRIED = {("2", "11"), ("2", "12"), ("2", "14")}
"""Versions of torch with which this works; any other imports the kernels at once, as it does by itself."""


def import_meta_kernels_late() -> None:
    """Let ``import torch`` do without the kernels; it does nothing if torch is imported already."""
    if "torch" not in sys.modules:
        sys.meta_path.insert(0, _Late())


def meta_kernels_are_imported() -> bool:
    """Return whether this process has the kernels."""
    return KERNELS in sys.modules and not isinstance(sys.modules[KERNELS], _StandIn)


def _is_tried() -> bool:
    """Return whether this works with the version of torch that is being imported."""
    return tuple(sys.modules["torch"].__version__.split(".")[:2]) in TRIED


class _Late(MetaPathFinder, Loader):
    """Put a stand-in in the place of the kernels, and import them for all who need them or one of their companions."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == KERNELS:
            return ModuleSpec(name, self) if _is_tried() else None
        if name in COMPANIONS:
            self.import_kernels()
            return imported_meanwhile(name) if name in sys.modules else None
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name, self)

    def exec_module(self, module: ModuleType) -> None:
        """Let the first tensor import the kernels. torch keeps its own forms of the two operators below ours."""
        torch = sys.modules["torch"]
        for name in COMPANIONS[:3]:  # torch reads them as its attributes
            setattr(torch, name.removeprefix("torch."), _StandIn(name, self))
        if hasattr(torch._C, "_set_generator_metaclass"):  # from 2.14 on the companions do this, for all generators
            torch._C._set_generator_metaclass(importlib.import_module("torch._custom_class_base").CustomClassBaseMeta)
        self.library = torch.library.Library("aten", "IMPL", "Meta")
        for name, overload in FIRST:
            operator = getattr(getattr(torch.ops.aten, name), overload)
            self.library.impl(operator, self._kernels_and_then(operator))

    def _kernels_and_then(self, operator: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            self.import_kernels()
            return operator(*args, **kwargs)

        return make

    def import_kernels(self) -> None:
        """Import the real module; at the first call, undo all of this before."""
        with self.lock:
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                if hasattr(self, "library"):
                    del self.library  # with all that it has registered
                    del sys.modules[KERNELS]
        importlib.import_module(KERNELS)


class _StandIn(ModuleType):
    """An empty module: a look at any of its names imports the real one."""

    def __init__(self, name: str, late: _Late) -> None:
        super().__init__(name)
        self._late = late

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the standard library reads such names of every module
            raise AttributeError(name)
        self._late.import_kernels()
        return getattr(sys.modules[self.__name__], name)
