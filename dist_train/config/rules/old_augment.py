"""``augment.randaugment`` and ``augment.transforms``, which are entries of ``augment.ops`` since 0.2.0.

They stay valid in YAML files and on the command line: ``augment.randaugment.magnitude=5`` changes the RandAugment of
``augment.ops``, or adds one.
"""

from typing import Any

from dist_train.config.ops.entry import written_out
from dist_train.errors import ConfigError

EXAMPLE = "{num_ops: 2, magnitude: 9}"
OLD_KEYS = frozenset({"augment.randaugment", "augment.transforms"})


def with_ops(tree: dict[str, Any]) -> None:
    """Write the two keys of a config, as nested dicts, as entries of ``augment.ops``: in place, in the order of 0.1.0."""
    augment = tree.get("augment")
    if not isinstance(augment, dict) or not augment.keys() & {"randaugment", "transforms"}:
        return
    ops = augment.get("ops", [])
    if not isinstance(ops, list | tuple):
        return
    try:
        _move(augment, [written_out(entry) for entry in ops])
    except ValueError as error:
        raise ConfigError(f"`augment.ops`: {error}") from None


def _move(augment: dict[str, Any], entries: list[Any]) -> None:
    if "randaugment" in augment:
        options = augment.pop("randaugment")
        if options is not None and not isinstance(options, dict):
            raise ConfigError(f"`augment.randaugment` ({options!r}) must be a section, such as {EXAMPLE}; or remove it")
        entries = _with_randaugment(entries, options)
    if "transforms" in augment:
        entries = _with_transforms(entries, augment.pop("transforms"))
    augment["ops"] = entries


def _with_randaugment(entries: list[Any], options: dict[str, Any] | None) -> list[Any]:
    """Return the entries with these options of RandAugment; without RandAugment if they are None."""
    others = [entry for entry in entries if not _is_randaugment(entry)]
    if options is None:
        return others
    if len(others) == len(entries):
        return [{"name": "randaugment", "p": 1.0, "options": options}, *others]
    return [entry | {"options": entry["options"] | options} if _is_randaugment(entry) else entry for entry in entries]


def _with_transforms(entries: list[Any], transforms: Any) -> list[Any]:
    """Return the entries with these classes in place of all other classes."""
    if not isinstance(transforms, list | tuple):
        transforms = [transforms]  # an error that names the place
    kept = [entry for entry in entries if not (isinstance(entry, dict) and ":" in str(entry.get("name")))]
    named = [written_out(entry) for entry in transforms]
    return [*kept, *({"p": None, **entry} if isinstance(entry, dict) else entry for entry in named)]


def _is_randaugment(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("name") == "randaugment" and isinstance(entry.get("options"), dict)
