"""Create the hooks that a config names, and put those from Python code beside them."""

from collections.abc import Iterable, Sequence

from dist_train.config.sections.train import HookConfig
from dist_train.config.user_code import created
from dist_train.errors import ConfigError
from dist_train.hooks.base import Hook
from dist_train.hooks.calls import Hooks


def open_hooks(entries: Sequence[HookConfig], given: Iterable[Hook] = ()) -> Hooks:
    """Return all hooks of a run. Their names are those of their classes, with a number if a class has several.

    Args:
        given: objects from Python code.

    Raises:
        ConfigError: a class does not exist, does not accept its options, or is not a ``Hook``.
    """
    named: dict[str, Hook] = {}
    made = [created(entry.name, "hooks", entry.options, Hook) for entry in entries]
    for hook in (*made, *given):
        kind = type(hook)
        if not isinstance(hook, Hook):
            raise ConfigError(f"hooks: {hook!r:.80} must be an object of a subclass of dist_train.hooks.base.Hook")
        name = f"{kind.__module__}:{kind.__qualname__}"
        count = sum(known.partition(" #")[0] == name for known in named)
        named[f"{name} #{count + 1}" if count else name] = hook
    return Hooks(named)
