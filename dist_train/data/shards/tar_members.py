"""Files in a tar archive, by the headers alone."""

import os
import posixpath
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from dist_train.data.shards.files import opened
from dist_train.data.shards.members import Aside, Member, is_inside
from dist_train.errors import DataError

COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

NO_FILES = "devices and sparse files"
NOWHERE = "links whose target is not in the archive (tar --dereference writes links as files)"

END_BYTES = 1 << 20
"""More than the zeros that tar writes at an end: 10,240 bytes, or what its option -b says."""


def tar_members(path: str, aside: Aside) -> Iterator[Member]:
    """See ``MemberReader``. A link to a file of the archive is a file with the same bytes; all others, devices and sparse
    files are counted, not read. No link leads to a path of this machine."""
    links: dict[str, str] = {}
    try:
        with opened(path) as file, _open_tar(path, file) as archive:
            total = file.seek(0, os.SEEK_END)
            for found in _headers(archive):
                if found.islnk() or found.issym():
                    links[found.name] = _target(found)
                elif not found.isreg() or found.issparse():
                    aside.kinds[NO_FILES] += 1
                else:
                    member = Member(found.name, found.offset_data, found.size, found.size)
                    if not is_inside(member, total):
                        raise tarfile.ReadError(f"{found.name!r} ends behind the end of the file")
                    yield member
            _check_end(file, archive.offset)
            if links:
                yield from _linked(_open_tar(path, file), links, aside)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"cannot read the archive {path}: {error}; copy or pack it again") from None


def _headers(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of an archive but for those of folders."""
    while (found := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # it keeps all that it has seen
        if not found.isdir():
            yield found


def _target(link: tarfile.TarInfo) -> str:
    """Return the name to which a link leads. A hard link has that of a member; a symbolic link begins at its own folder."""
    folder = posixpath.dirname(link.name) if link.issym() else ""
    return posixpath.normpath(posixpath.join(folder, link.linkname))


def _linked(archive: tarfile.TarFile, links: dict[str, str], aside: Aside) -> Iterator[Member]:
    """Yield a file for each link to one. A second pass finds their places: so archives without links need no table of all names."""
    next_of = {posixpath.normpath(name): target for name, target in links.items()}
    ends = {name: _end(target, next_of) for name, target in links.items()}
    wanted = set(ends.values())
    places = {
        name: (found.offset_data, found.size)
        for found in _headers(archive)
        if found.isreg() and not found.issparse() and (name := posixpath.normpath(found.name)) in wanted
    }
    for name, end in ends.items():
        if end in places:
            offset, size = places[end]
            yield Member(name, offset, size, size)
        else:
            aside.kinds[NOWHERE] += 1


def _end(name: str, next_of: dict[str, str]) -> str:
    """Return where a chain of links ends; a name on it, if it is a circle."""
    seen = set()
    while name in next_of and name not in seen:
        seen.add(name)
        name = next_of[name]
    return name


def _check_end(file: BinaryIO, offset: int) -> None:
    """Raise ``ReadError`` if there is something else than zeros behind the last member, or nothing: tarfile would not say so."""
    file.seek(offset)
    rest = file.read(END_BYTES + 1)
    if len(rest) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end, so that its last files may be missing")
    if rest[: tarfile.BLOCKSIZE].strip(b"\0"):
        raise tarfile.ReadError("a header in it is damaged, so that the files behind it would not be read")
    if rest.strip(b"\0"):
        raise tarfile.ReadError(
            "another archive follows its end, and would not be read; or a part in the middle is missing"
        )
    if len(rest) > END_BYTES:
        raise tarfile.ReadError("more than 1 MB of zeros follow its end: it was probably not downloaded completely")


def _open_tar(path: str, file: BinaryIO) -> tarfile.TarFile:
    file.seek(0)
    head = file.read(8)
    kind = next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), None)
    if kind is not None:
        raise DataError(
            f"{path} is compressed by {kind}, so that no image in it can be read alone; unpack it to a folder and run "
            "`dist-train pack FOLDER OUT`, which writes tar files without compression (photos do not shrink)"
        )
    file.seek(0)
    return tarfile.open(fileobj=file, mode="r:", errorlevel=2)
