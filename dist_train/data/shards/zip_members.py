"""Files in a zip archive: where they lie, by its directory and the headers of the files; and how they are inflated.

libdeflate (package ``deflate``) inflates where it is installed, else zlib, to the same bytes. What libdeflate refuses, zlib looks at
again, so that a bad image is one with both. Only some made-up streams, of symbols that the format forbids, pass libdeflate alone.
"""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, BinaryIO

from dist_train.data.shards.files import opened
from dist_train.data.shards.members import Aside, Member, is_inside
from dist_train.errors import DataError

LOCAL_HEADER = struct.Struct("<4s22xHH")
ENCRYPTED, UTF_8 = 0x1, 0x800
"""Flags of a file: what is packed in it, and how its name is written."""
MOST_BYTES = 10**9
"""Of an unpacked file: a small archive can hold files that no memory holds."""


def zip_members(path: str, aside: Aside) -> Iterator[Member]:
    """See ``MemberReader``. Stored files are read as they lie there, deflated ones are inflated one by one."""
    try:
        with opened(path) as table, zipfile.ZipFile(table) as archive, opened(path) as file:
            total = file.seek(0, os.SEEK_END)
            if len({found.volume for found in archive.infolist()}) > 1:
                raise zipfile.BadZipFile("it is one of several parts, which `zip -s 0 LAST.zip --out ONE.zip` joins")
            for found in archive.infolist():
                if found.is_dir():
                    continue
                if found.flag_bits & ENCRYPTED or found.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    aside.kinds["files that are encrypted, or packed by another method than deflate"] += 1
                    continue
                if stat.S_ISLNK(found.external_attr >> 16):
                    aside.kinds["links (zip without -y writes them as files)"] += 1
                    continue
                if found.file_size > MOST_BYTES:
                    aside.kinds["files of more than 1 GB"] += 1
                    continue
                deflated = found.compress_type == zipfile.ZIP_DEFLATED
                member = Member(_name(found), _start(file, found), found.compress_size, found.file_size, deflated)
                if not is_inside(member, total):
                    raise zipfile.BadZipFile(f"{found.filename!r} ends behind the end of the file")
                yield member
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise DataError(f"cannot read the archive {path}: {error}; copy or pack it again") from None


def _name(found: zipfile.ZipInfo) -> str:
    """Return the name of a file. ``zip`` and macOS write UTF-8 and do not say so; Python then reads it as cp437, as the format demands."""
    name = found.filename
    if not found.flag_bits & UTF_8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")  # some programs for Windows write those


def _start(file: BinaryIO, found: zipfile.ZipInfo) -> int:
    """Return where the bytes of a file begin: its own header may have other fields than the directory."""
    file.seek(found.header_offset)
    magic, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if magic != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"{found.filename!r} has no header")
    return found.header_offset + LOCAL_HEADER.size + int(name) + int(extra)


def inflate(packed: bytes, size: int) -> bytes:
    """Return the ``size`` bytes of a raw deflate stream. At most one more byte than ``size`` is ever unpacked.

    Raises:
        ValueError: the stream is damaged or cut off, or has another number of bytes.
    """
    deflate = _libdeflate()
    if deflate and size:  # it unpacks nothing to compare with a size of 0
        with suppress(deflate.DeflateError):
            found = deflate.deflate_decompress(packed, size)
            if len(found) == size:
                return bytes(found)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        whole = stream.decompress(packed, size + 1)  # a limit of 0 would be none
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(whole) != size or not stream.eof:
        raise ValueError("it has other bytes than the archive says")
    return whole


@lru_cache(maxsize=1)
def _libdeflate() -> Any:
    """Return the package ``deflate``; None without it."""
    try:
        import deflate
    except ImportError:
        return None
    return deflate
