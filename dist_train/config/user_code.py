"""Load the functions and classes that a config names as ``package.module:name``, the user's and ours."""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from dist_train.config.choice_table import ChoiceTable
from dist_train.config.types import CALLABLE, HUBS
from dist_train.errors import ConfigError

T = TypeVar("T")


def is_own(name: str) -> bool:
    """Return whether a model is the user's, ``package.module:callable``."""
    return ":" in name and not name.startswith(HUBS)


def load_callable(spec: str, key: str) -> Callable[..., Any]:
    """Return the function or class that ``spec`` names. Python's search path counts (PYTHONPATH, the current folder).

    Args:
        key: the config key that holds ``spec``, for messages.

    Raises:
        ConfigError: the module or the name does not exist, or is neither a function nor a class.
    """
    module_name, _, name = spec.partition(":")
    if not CALLABLE.fullmatch(spec):
        raise ConfigError(f"`{key}` ({spec}) must be package.module:name, such as my_code.parts:{key.split('.')[0]}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # The module exists, but an import inside it fails: its own traceback is the best message.
        raise ConfigError(
            f"`{key}` ({spec}): there is no module {error.name}; start from its folder, or add its folder to PYTHONPATH"
        ) from None
    try:
        found = getattr(module, name)
    except AttributeError:
        library = key == "model.name" and module_name in ("timm", "torchvision")
        hint = f"; for its model of this name: model.source={module_name} model.name={name}" if library else ""
        raise ConfigError(f"`{key}` ({spec}): {module_name} has no {name or 'empty name'}{hint}") from None
    if not callable(found):
        raise ConfigError(f"`{key}` ({spec}) must be a function or a class, not {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def created(spec: str, key: str, options: dict[str, Any], kind: type[T]) -> T:
    """Return an object of the user's class ``spec``, made with ``options``.

    Raises:
        ConfigError: the class does not exist, does not accept these options, or is not a subclass of ``kind``.
    """
    make = load_callable(spec, key)
    try:
        found = make(**options)
    except TypeError as error:
        raise ConfigError(f"`{key}` ({spec}) does not accept its `options`: {error}") from error
    if not isinstance(found, kind):
        base = f"{kind.__module__}.{kind.__qualname__}"
        raise ConfigError(f"`{key}` ({spec}) makes a {type(found).__name__}; it must be a subclass of {base}")
    return found


def function_of(table: ChoiceTable[Any], name: str) -> Callable[..., Any]:
    """Return the function of the row of ``name`` in a table of choices. Imports its module."""
    build = table.find(name).build
    return _function_of_a_row(build, table.key) if build else load_callable(name, table.key)


@cache
def _function_of_a_row(build: str, key: str) -> Callable[..., Any]:
    # Cached: every step computes a learning rate, and this look-up takes as long as the computation.
    return load_callable(build, key)
