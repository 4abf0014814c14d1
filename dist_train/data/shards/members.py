"""What the readers of archives return: where the files in them lie."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
        name: as the archive has it. It never becomes a path of this machine.
        offset, length: its bytes in the archive; ``length`` is that of the packed bytes where it is deflated.
        size: its bytes when it is read.
        deflated: its bytes are a raw deflate stream.
    """

    name: str
    offset: int
    length: int
    size: int
    deflated: bool = False


@dataclass
class Aside:
    """What is not read: the number of members by kind, such as links."""

    kinds: Counter[str] = field(default_factory=Counter)


MemberReader = Callable[[str, Aside], Iterator[Member]]
"""Yield the files in an archive in its own order; count in ``Aside`` what else it has. Raise ``DataError`` for an archive that is
damaged, or that has no place for each file."""


def is_inside(member: Member, archive_bytes: int) -> bool:
    """Return whether a member's bytes lie inside its archive: a header may say anything."""
    return 0 <= member.offset <= member.offset + member.length <= archive_bytes
