"""Files in a zip archive, by its directory and the headers of the files."""

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from dist_train.data.shards.files import opened
from dist_train.data.shards.members import Aside, Member, is_inside
from dist_train.errors import DataError

LOCAL_HEADER = struct.Struct("<4s22xHH")
ENCRYPTED = 0x1
MOST_BYTES = 10**9
"""Of an unpacked file: a small archive can hold files that no memory holds."""


def zip_members(path: str, aside: Aside) -> Iterator[Member]:
    """See ``MemberReader``. Stored files are read as they lie there, deflated ones are inflated one by one."""
    try:
        with opened(path) as table, zipfile.ZipFile(table) as archive, opened(path) as file:
            total = file.seek(0, os.SEEK_END)
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
                name = found.filename.replace("\\", "/")  # some programs for Windows write those
                deflated = found.compress_type == zipfile.ZIP_DEFLATED
                member = Member(name, _start(file, found), found.compress_size, found.file_size, deflated)
                if not is_inside(member, total):
                    raise zipfile.BadZipFile(f"{found.filename!r} ends behind the end of the file")
                yield member
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise DataError(f"cannot read the archive {path}: {error}; copy or pack it again") from None


def _start(file: BinaryIO, found: zipfile.ZipInfo) -> int:
    """Return where the bytes of a file begin: its own header may have other fields than the directory."""
    file.seek(found.header_offset)
    magic, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if magic != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"{found.filename!r} has no header")
    return found.header_offset + LOCAL_HEADER.size + int(name) + int(extra)
