"""Whether a hook that no checkpoint holds has changed its attributes."""

import io
import pickle
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from dist_train.errors import ConfigError
from dist_train.hooks.base import Hook


class Memory:
    """The attributes of a hook, as they are now."""

    def __init__(self, name: str, hook: Hook) -> None:
        self._name, self._hook = name, hook
        self._kept = type(hook).state_dict is not Hook.state_dict
        self._before = self._attributes()

    def refuse_changes(self) -> None:
        """Raise ConfigError if the hook has no ``state_dict``, and an attribute has changed since this object was made."""
        now = self._attributes()
        changed = [name for name in {**self._before, **now} if self._before.get(name) != now.get(name)]
        if changed:
            raise ConfigError(
                f"`hooks` ({self._name}) changes its attributes {', '.join(changed)}, which no checkpoint holds: a resumed run "
                "would begin with other values; give the class state_dict() and load_state_dict(state), or list those that do "
                "not matter in an attribute `transient`"
            )

    def _attributes(self) -> dict[str, Any]:
        return {} if self._kept else dict(self._values())

    def _values(self) -> Iterator[tuple[str, Any]]:
        for name, value in getattr(self._hook, "__dict__", {}).items():
            if name not in self._hook.transient:
                yield name, _print(value)


class _Printer(pickle.Pickler):
    """Writes a value without reading tensors, which may be on a device: their identity and number of changes count."""

    def persistent_id(self, value: Any) -> Any:
        return (id(value), value._version) if isinstance(value, Tensor) else None


def _print(value: Any) -> Any:
    """Return what is the same for an unchanged value; of what cannot be pickled, only whether it is the same object."""
    text = io.BytesIO()
    try:
        _Printer(text).dump(value)
    except Exception:  # noqa: BLE001 - whatever the objects of the user's hook raise
        return id(value)
    return text.getvalue()
