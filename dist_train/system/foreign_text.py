"""Text that others chose, such as names of files and classes: safe to print, and safe in a table that a spreadsheet opens."""

import re
from typing import Any

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, marks that reverse the direction of writing, bytes that are not UTF-8."""
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n")
"""How a spreadsheet recognises a formula; the full-width forms count in some languages."""


def printable(text: object, most: int | None = None, keep: str = "") -> str:
    r"""Return the text with ``\x1b`` for an escape character, and so on: a terminal shows it and obeys nothing in it.

    Args:
        most: cut a longer text.
        keep: characters to leave as they are.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    shown = _UNSAFE.sub(lambda match: match[0] if match[0] in keep else _escaped(match[0]), str(text))
    return shown if most is None or len(shown) <= most else f"{shown[: most - 3]}..."


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's form of a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def csv_cell(value: Any) -> Any:
    """Return a value for a CSV file: with ' in front if a spreadsheet would compute it. Numbers stay as they are."""
    if isinstance(value, int | float) or value is None:
        return value
    text = str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
