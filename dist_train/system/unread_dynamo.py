"""Do without ``torch._dynamo`` until something compiles: it is a quarter of what a rank imports, in seconds and in memory.

torchvision, timm, ``torch.optim`` and DDP import it, for what has no effect where nothing is compiled. So the import gives the
module unread, with just that. Whatever else is asked of it reads it, into the same object: ``torch.compile`` and user code find
all that they know.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import FunctionType, ModuleType
from typing import Any

NAME = "torch._dynamo"
UTILS = f"{NAME}.utils"

_LOCK = RLock()


def read_dynamo_when_used() -> None:
    """Let ``import torch._dynamo`` cost nothing in this process until it is used. No effect if it is imported already."""
    if NAME not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def dynamo_is_unread() -> bool:
    """Whether an import has given the module unread, and nothing has used it yet."""
    return isinstance(sys.modules.get(NAME), _Unread)


def call_when_read(function: Callable[[], object]) -> None:
    """Call a function as soon as the module is read: now, unless it is unread."""
    if dynamo_is_unread():
        sys.modules[NAME].calls.append(function)
    else:
        function()


class _Disabled:
    """A function that a compiler must not look into: itself, and what the module makes of it once it is read."""

    def __init__(self, function: FunctionType, recursive: bool, options: dict[str, Any]) -> None:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            return self._function(*args, **kwargs)

        self.called, self._function = called, function
        self._options = {"recursive": recursive, **options}

    def read(self, disable: Callable[..., Any]) -> None:
        self._function = disable(self._function, **self._options)
        vars(self.called).update(vars(self._function))  # the marks by which a compiler knows it


class _Unread(ModuleType):
    """The module before it is read: what is not in it reads it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._disabled: list[_Disabled] = []
        self.calls: list[Callable[[], object]] = []
        self._reading = False
        self.config, self.utils, self.trace_rules = _UnreadConfig(), _UnreadUtils(UTILS), _UnreadRules()

    def __getattr__(self, name: str) -> Any:
        if self._reading or _unset(name):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.read()
        return getattr(self, name)

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Do nothing, as outside of a compilation."""

    def disable(self, fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        """Return a function that is disabled once the module is read."""
        if not isinstance(fn, FunctionType):
            self.read()
            return self.disable(fn, recursive, **options)
        self._disabled.append(_Disabled(fn, recursive, options))
        return self._disabled[-1].called

    def read(self) -> None:
        """Import the module into this object."""
        with _LOCK:
            if type(self) is not _Unread:  # another thread has read it
                return
            disabled, settings, calls = self._disabled, self.config.settings, self.calls
            del self._disabled, self.calls, self.config, self.utils, self.trace_rules, sys.modules[UTILS]
            sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
            self._reading = True
            importlib.reload(self)
            del self._reading
            self.__class__ = ModuleType  # type: ignore[assignment]
            for name, value in settings.items():
                setattr(self.config, name, value)
            for function in disabled:
                function.read(self.disable)
            for call in calls:
                call()


class _UnreadConfig:
    """``torch._dynamo.config`` before it is read: it keeps what is set (timm.optim sets an option)."""

    settings: dict[str, Any]

    def __init__(self) -> None:
        vars(self)["settings"] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if dynamo_is_unread():
            self.settings[name] = value
        else:
            setattr(_read().config, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(_read().config, name)


class _UnreadUtils(ModuleType):
    """``torch._dynamo.utils`` before it is read."""

    def __getattr__(self, name: str) -> Any:
        if _unset(name):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(_read().utils, name)

    @staticmethod
    def get_optimize_ddp_mode() -> str:
        """Return the default, for DDP; another mode was set if the module is read or keeps a setting."""
        module = sys.modules[NAME]
        if isinstance(module, _Unread) and "optimize_ddp" not in module.config.settings:
            return "ddp_optimizer"
        return str(_read().utils.get_optimize_ddp_mode())

    @staticmethod
    def is_compile_supported(device_type: Any) -> Any:
        """Ask the module, when torchvision calls it and not when torchvision imports it."""
        return _read().utils.is_compile_supported(device_type)


class _UnreadRules:
    """``torch._dynamo.trace_rules`` before it is read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_read().trace_rules, name)

    @staticmethod
    def clear_lru_cache() -> None:
        """Clear the caches, which are empty if the module is unread. For ``init_process_group``."""
        if not dynamo_is_unread():
            _read().trace_rules.clear_lru_cache()


def _read() -> Any:
    """Return the module, read."""
    module = sys.modules[NAME]
    if isinstance(module, _Unread):
        module.read()
    return module


def _unset(name: str) -> bool:
    """Whether Python itself looks for the name in any module (``__warningregistry__``, ``__wrapped__``)."""
    return name.startswith("__") and name != "__all__"


class _Finder(MetaPathFinder, Loader):
    """Finds the module unread. An import of something below it reads it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == NAME:
            spec = PathFinder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = self
            return spec
        if name.startswith(f"{NAME}."):
            _read()
            return ModuleSpec(name, _Present(sys.modules[name])) if name in sys.modules else None
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _Unread(spec.name)
        sys.modules[UTILS] = module.utils
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave it unread."""


class _Present(Loader):
    """Gives a module that was imported when its parent was read."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
