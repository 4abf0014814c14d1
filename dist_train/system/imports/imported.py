"""For modules that another import has brought in while Python was looking for them."""

import copy
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType


def imported_meanwhile(name: str) -> ModuleSpec:
    """Return the answer of a finder whose search has imported the module: Python would else run it a second time."""
    module = sys.modules[name]
    assert module.__spec__ is not None
    answer = copy.copy(module.__spec__)
    answer.loader = _There(module.__spec__)
    module.__spec__ = answer  # Python takes this one, whatever the finder returns
    return answer


class _There(Loader):
    """Load a module that is imported already."""

    def __init__(self, spec: ModuleSpec) -> None:
        self.spec = spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is, and give it its own spec back."""
        module.__spec__ = self.spec
