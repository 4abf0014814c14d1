"""The strings by which timm names its augmentation policies: which ones are valid. Imports no timm.

timm ignores a part that it does not know if that has no digit, stops with a bare assertion at others, and takes the first of
two parts that contradict. Here each is an error.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator

_NUMBER, _INTEGER, _COUNT, _FLAG = r"\d+(?:\.\d+)?", r"\d+", r"[1-9]\d?", r"[01]"

PARTS: dict[str, dict[str, str]] = {
    "rand": {
        "m": _INTEGER,
        "n": _COUNT,
        "p": r"0(?:\.\d+)?|1(?:\.0+)?",
        "mstd": _NUMBER,
        "mmax": r"[1-9]\d*",
        "inc": _FLAG,
        "t": "weights|3aw|3a",
    },
    "augmix": {
        "m": _INTEGER,
        "w": _COUNT,
        "d": _COUNT,
        "a": r"0\.0*[1-9]\d*|[1-9]\d*(?:\.\d+)?",
        "b": _FLAG,
        "mstd": _NUMBER,
    },
    **{name: {"mstd": _NUMBER} for name in ("original", "originalr", "v0", "v0r", "3a")},
}
"""Policy -> its parts -> the values of a part, as a regular expression. timm 1.0, ``timm.data.auto_augment``."""

WEIGHTED = {"weights": 15, "3aw": 14}
"""Sets of operations that are drawn without replacement -> their number."""


def is_policy(name: str) -> bool:
    """Return whether a string begins as a policy does; ``augmix`` alone is the operation of torchvision."""
    return name.split("-")[0] in PARTS and name != "augmix"


def by_name(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of ``augment.ops`` whose name is a policy as ``{name: timm, options: {policy: ...}}``, others unchanged.

    Raises:
        ValueError: it also has the option ``policy``.
    """
    name = entry.get("name")
    if not isinstance(name, str) or not is_policy(name):
        return entry
    if "policy" in entry["options"]:
        raise ValueError(f"`policy` is given twice: {name} is one; write `name: timm`, or remove `policy`")
    return entry | {"name": "timm", "options": {"policy": name, **entry["options"]}}


def checked(policy: str) -> str:
    """Return ``policy`` unchanged.

    Raises:
        ValueError: timm does not know it, or would ignore a part of it.
    """
    head, *parts = policy.split("-")
    if head not in PARTS:
        raise ValueError(f"{policy!r} must begin with one of {', '.join(PARTS)}, such as rand-m9-mstd0.5-inc1")
    found: dict[str, str] = {}
    for part in parts:
        key, value = _read(policy, head, part)
        if key in found:
            raise ValueError(f"{policy!r} gives `{key}` twice; remove one")
        found[key] = value
    most = WEIGHTED.get(found.get("t", ""), 100)
    if int(found.get("n", 2)) > most:
        raise ValueError(f"{policy!r}: n must be at most {most}, the number of operations of t{found['t']}")
    return policy


def _read(policy: str, head: str, part: str) -> tuple[str, str]:
    for key, values in PARTS[head].items():
        match = re.fullmatch(f"{key}({values})", part)
        if match:
            return key, match[1]
    known = ", ".join(f"{key}..." for key in PARTS[head])
    raise ValueError(
        f"{policy!r}: {part!r} is not a part of a {head} policy; the parts are {known}, each with its value"
    )


Policy = Annotated[str, AfterValidator(checked)]
"""A policy string, such as ``rand-m9-mstd0.5-inc1``, ``augmix-m3-w3``, ``original``, ``v0`` or ``3a``."""
