"""One entry of ``augment.ops``, in any of the forms in which a user may write it."""

from typing import Any

FIELDS = ("name", "p", "options")


def written_out(entry: Any) -> Any:
    """Return an entry as a dict of ``name``, ``p`` if given, and ``options``; unchanged if its ``options`` are no dict.

    Text is a name, and other keys of an entry are options.

    Raises:
        ValueError: it is neither text nor a dict, or gives an option twice.
    """
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict):
        raise ValueError(f"{entry!r} must be the name of an operation, or a section with `name`")
    if not isinstance(entry.get("options", {}), dict):
        return entry
    rest = {key: value for key, value in entry.items() if key not in FIELDS}
    twice = sorted(rest.keys() & entry.get("options", {}).keys())
    if twice:
        raise ValueError(f"`{twice[0]}` is given twice, in `options` and beside them; remove one")
    return {key: entry[key] for key in FIELDS if key in entry} | {"options": {**entry.get("options", {}), **rest}}
