"""Images in archives, read one by one at their places."""

import os
from dataclasses import dataclass, field, replace
from functools import cached_property

from dist_train.data.decoding.decode import left_out, picture_in, stored_values
from dist_train.data.decoding.deep import DeepImage
from dist_train.data.decoding.picture import BadImage, Picture
from dist_train.data.decoding.rules import DEFAULT_RULES, DecodeRules
from dist_train.data.shards.files import read_at, read_once
from dist_train.data.shards.members import Member
from dist_train.data.shards.places import Places, Shard
from dist_train.data.shards.zip_members import inflate
from dist_train.errors import DataError


@dataclass(frozen=True, eq=False)
class ShardImages:
    """Names are those that the images have in a folder, such as ``train/class/image.jpg``.

    Attributes:
        copies: paths of copies on the node's own disk, which may be there or not; none without ``data.stage``.
    """

    root: str
    shards: tuple[Shard, ...]
    places: Places
    copies: tuple[str, ...] = field(default=(), kw_only=True)
    rules: DecodeRules = field(default=DEFAULT_RULES, kw_only=True)

    def open(self, name: str) -> Picture:
        number, member = self.places.find(name)
        return picture_in(self._content(number, member), self._described(number, name), self.rules)

    def deep(self, name: str) -> DeepImage | None:
        try:
            return stored_values(name, self.rules, self.content(name))
        except BadImage:
            return None

    def left_out(self, name: str) -> list[str]:
        try:
            return left_out(name, self.content(name))
        except BadImage:
            return []

    def with_rules(self, rules: DecodeRules) -> "ShardImages":
        return replace(self, rules=rules)

    def content(self, name: str, most: int | None = None) -> bytes:
        """Return the bytes of an image's file, or its first ``most`` ones.

        Raises:
            DataError: the archive is missing, cannot be read, or has changed since it was scanned.
            BadImage: the bytes cannot be inflated.
        """
        return self._content(*self.places.find(name), most)

    def _content(self, number: int, member: Member, most: int | None = None) -> bytes:
        length = member.length if most is None or member.deflated else min(most, member.length)
        packed = self._copied(number, member, length) or self._read(number, member, length)
        if not member.deflated:
            return packed
        try:
            return inflate(packed, member.size)[:most]
        except ValueError as error:
            raise BadImage(f"cannot read the image {self._described(number, member.name)}: {error}") from None

    def _copied(self, number: int, member: Member, length: int) -> bytes:
        """Return the bytes from the copy of an archive; none if it is not there, or not as the archive was."""
        if not self.copies:
            return b""
        try:  # a copy does not stay open: it may be removed to make room, and an open file keeps its room
            found, version = read_once(self.copies[number], member.offset, length)
        except OSError:
            return b""
        return found if version == self.shards[number].version and len(found) == length else b""

    def _read(self, number: int, member: Member, length: int) -> bytes:
        path = self._paths[number]
        found, version = read_at(path, member.offset, length)
        if version != self.shards[number].version:
            raise DataError(
                f"the archive {path} has changed since this start of the run read its table of files; restore it, or start "
                "the run again, which compares all images with those that it began with"
            )
        if len(found) != length:
            raise DataError(f"cannot read the archive {path}: {member.name!r} is cut off")
        return found

    def _described(self, number: int, name: str) -> str:
        return f"{name} in {self._paths[number]}"

    @cached_property
    def _paths(self) -> list[str]:
        return [os.path.join(self.root, shard.path) for shard in self.shards]
