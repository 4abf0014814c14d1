"""Import torch's compiler, ``torch._dynamo`` and ``torch._inductor``, only where it is used: most runs compile nothing.

torchvision, timm, torch's optimizers and DDP import it for a few names that matter only to code that is compiled. With sympy
and all that it imports, it takes as long as the rest of torch, in each process.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from dist_train.system.imports.imported import imported_meanwhile

DYNAMO, INDUCTOR = "torch._dynamo", "torch._inductor"
POSTPONED = {(f"{DYNAMO}.config", "cache_size_limit"), (f"{INDUCTOR}.config", "deterministic")}
"""Settings that are kept until the compiler is imported. ``timm.optim`` makes the first, where that is imported, for one of its
optimizers; ``torch.use_deterministic_algorithms`` the second."""


def import_compiler_late() -> None:
    """Put stand-ins in the place of both packages and four of their modules; it does nothing if one is imported already.

    The stand-ins answer what torch, torchvision and timm ask in a process that compiles nothing. Any other name or submodule,
    of these or of later versions, imports the real packages, which then answer everything.
    """
    if not {DYNAMO, INDUCTOR} & sys.modules.keys():
        for name, answers in ANSWERS.items():
            sys.modules[name] = _StandIn(name, answers)
        sys.meta_path.insert(0, _Submodules())


def keep_at_hand() -> None:
    """Make the stand-in an attribute of ``torch``: an optimizer's step else looks for it among all modules, for 6 us."""
    torch = sys.modules.get("torch")
    if torch is not None and DYNAMO in sys.modules:
        torch._dynamo = sys.modules[DYNAMO]  # type: ignore[attr-defined]


def compiler_is_imported() -> bool:
    """Return whether anything in this process can be compiled yet."""
    return DYNAMO in sys.modules and _is_real()


def _real(name: str = DYNAMO) -> ModuleType:
    """Return the real module; import the packages if nothing needed them before."""
    if not _is_real():
        torch = importlib.import_module("torch")
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Submodules)]
        # Another thread may do the same at this moment, and the import of the real modules has begun.
        there = [module for module in ANSWERS if isinstance(sys.modules.get(module), _StandIn)]
        stand_ins = {module: vars(sys.modules.pop(module)) for module in there}
        made = [(module, key, stand_ins[module][key]) for module, key in POSTPONED if key in stand_ins.get(module, {})]
        for module, names in stand_ins.items():
            _forget(names, ANSWERS[module].keys() | {key for _, key in POSTPONED})
        _forget(vars(torch), {"_dynamo"})
        for module, key, value in made:
            setattr(importlib.import_module(module), key, value)
    return importlib.import_module(name)


def _is_real() -> bool:
    return not isinstance(sys.modules.get(DYNAMO), _StandIn)


def _forget(variables: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        variables.pop(name, None)


class _StandIn(ModuleType):
    """Some functions of a module; any other name imports the module itself, which answers all names from then on."""

    def __init__(self, name: str, answers: dict[str, Any]) -> None:
        super().__init__(name)
        vars(self).update(answers, __path__=[], __spec__=ModuleSpec(name, None, is_package=True))

    def __getattr__(self, name: str) -> Any:
        # The standard library reads __file__ and similar names of every module. Such a read must not import the compiler.
        if name.startswith("__"):
            raise AttributeError(name)
        submodule = f"{self.__name__}.{name}"
        return (
            sys.modules[submodule] if submodule in ANSWERS and not _is_real() else getattr(_real(self.__name__), name)
        )

    def __setattr__(self, name: str, value: object) -> None:
        if (self.__name__, name) in POSTPONED and not _is_real():
            vars(self)[name] = value
        else:
            setattr(_real(self.__name__), name, value)


class _Submodules(MetaPathFinder):
    """Find the real submodules of the packages, which have none while their stand-ins are there."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith((f"{DYNAMO}.", f"{INDUCTOR}.")):
            return None
        package = _real(name.rpartition(".")[0])
        return imported_meanwhile(name) if name in sys.modules else PathFinder.find_spec(name, package.__path__)


def _disable(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
    """Do as ``torch._dynamo.disable`` does, from the moment at which something is compiled."""
    if fn is None:
        return functools.partial(_disable, recursive=recursive, **options)
    disabled = None

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal disabled
        if not _is_real():
            return fn(*args, **kwargs)
        disabled = disabled or _real().disable(fn, recursive, **options)
        return disabled(*args, **kwargs)

    return call


ANSWERS: dict[str, dict[str, Callable[..., Any]]] = {
    DYNAMO: {"disable": _disable, "graph_break": lambda: None},
    f"{DYNAMO}.config": {},
    f"{DYNAMO}.utils": {
        "get_optimize_ddp_mode": lambda: "ddp_optimizer",
        "is_compile_supported": lambda device: _real(f"{DYNAMO}.utils").is_compile_supported(device),
    },
    f"{DYNAMO}.trace_rules": {"clear_lru_cache": lambda: None},
    INDUCTOR: {},
    f"{INDUCTOR}.config": {},
}
"""What the stand-ins answer as long as nothing is compiled: the defaults of torch/_dynamo/config.py, or nothing to do."""
