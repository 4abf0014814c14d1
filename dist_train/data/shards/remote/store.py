"""Archives that lie elsewhere: ``s3://``, ``gs://``, ``hf://`` and whatever else fsspec opens.

https://filesystem-spec.readthedocs.io. Passwords and endpoints are those that its libraries find for themselves: in the environment, or
in their own files. The file system is asked for at each call: after a fork fsspec gives the process one of its own.
"""

import hashlib
import io
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from dist_train.data.shards.remote.failures import may_heal, refusal, text_of
from dist_train.data.shards.remote.hub import at_commit
from dist_train.data.shards.remote.systems import system_of
from dist_train.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

log = logging.getLogger(__name__)

Result = TypeVar("Result")

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Between two attempts. The libraries try several times too: s3fs for seconds, gcsfs for half a minute."""

PATIENCE_S = 90.0
"""After this time no attempt begins, however few there were."""

AHEAD = 3
"""Parts of a file that are on their way while another is worked on: a store gives one connection a share of what the network can do."""

VERSIONS = ("ETag", "etag", "generation", "blob_id", "LastModified", "last_modified", "mtime", "created")
"""What says that a file has changed; the first that its file system gives counts."""

Version = tuple[int, int]
"""Size in bytes, and a number of 60 bits that stands for the ETag: as a time in ns it is long ago."""


class Store(NamedTuple):
    """A file system of fsspec, and the address of a file or folder in it.

    Attributes:
        fixed: what the address leads to cannot change.
    """

    system: Any
    path: str
    fixed: bool = False


def files_below(root: str) -> dict[str, Version]:
    """Return the files of a remote folder and of its subfolders, by their paths relative to it.

    Of a root that is an archive itself, return this one, by an empty path.

    Raises:
        DataError: see ``read``.
    """

    def listed(store: Store) -> dict[str, Version]:
        about = _info(store)
        if about["type"] == "file":
            return {"": _version(about)}
        top = store.system._strip_protocol(store.path).rstrip("/") + "/"
        found = store.system.find(store.path, maxdepth=2, detail=True)
        return {path.removeprefix(top): _version(about) for path, about in sorted(found.items())}

    return _tried(root, listed, now=True)


def version_of(path: str) -> Version:
    """Return what a file is now, or in the commit of ``hub.at_commit``; raise ``DataError`` as ``read`` does."""
    return _tried(path, lambda store: _version(_info(store)))


def read(path: str, offset: int, length: int) -> bytes:
    """Return a part of a file, less where the file ends before.

    Raises:
        DataError: it is missing, or it cannot be read: at once where another attempt cannot help, else after several.
    """

    def part(store: Store) -> bytes:
        # The others open a file first, and would read 5 MB more than is asked for.
        alone = {} if store.system.async_impl else {"cache_type": "none"}
        found = bytes(store.system.cat_file(store.path, start=offset, end=offset + length, **alone))
        if len(found) > length:
            raise DataError(
                f"cannot read {path}: the server, or a proxy before it, sends whole files where parts are asked for"
            )
        return found

    return _tried(path, part) if length else b""


class RemoteFile(io.RawIOBase):
    """A remote file: put a large buffer in front of it. While it is read in order, its next parts are on their way."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path, self._place, self._next = path, 0, 0
        self._size, _ = version_of(path)
        self._pool = ThreadPoolExecutor(AHEAD)
        self._coming: dict[tuple[int, int], Future[bytes]] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer).cast("B")
        wanted = max(0, min(len(target), self._size - self._place))
        content = self._part(self._place, wanted)
        if len(content) != wanted:
            raise DataError(f"cannot read {self._path}: it has become shorter meanwhile; start again")
        target[:wanted] = content
        self._place += wanted
        return wanted

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _part(self, place: int, length: int) -> bytes:
        coming = self._coming.pop((place, length), None)
        in_order, self._next = place == self._next, place + length
        if not in_order:
            self._coming.clear()
        elif length:
            for start in range(self._next, min(self._size, self._next + AHEAD * length), length):
                part = start, min(length, self._size - start)
                if part not in self._coming:
                    self._coming[part] = self._pool.submit(read, self._path, *part)
        return read(self._path, place, length) if coming is None else coming.result()


def _store(path: str, now: bool) -> Store:
    system = system_of(path)
    place = at_commit(system, path, now) if path.startswith("hf://") else path
    return Store(system, place, fixed=place != path)


def _info(store: Store) -> dict[str, Any]:
    """Return what the server says of a file now; without a call of invalidate_cache huggingface_hub answers from its cache."""
    if not store.fixed:
        store.system.invalidate_cache(store.path)
    found: dict[str, Any] = store.system.info(store.path)
    return found


def _version(about: dict[str, Any]) -> Version:
    text = next((f"{key}={about[key]}" for key in VERSIONS if about.get(key) is not None), "")
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 4
    return int(about["size"]), number


def _tried(path: str, call: Callable[[Store], Result], now: bool = False) -> Result:
    """Call a function with the store of a path, several times if it fails and another attempt may succeed.

    Args:
        now: as it is now; else this may be an older state, of which this process has read before.
    """
    began = time.monotonic()
    for number, wait_s in enumerate((*WAITS_S, None), 1):
        try:
            return call(_store(path, now))
        except DataError:
            raise
        except Exception as error:
            if not may_heal(error):
                raise DataError(refusal(path, error)) from None
            if wait_s is None or time.monotonic() - began + wait_s > PATIENCE_S:
                raise DataError(
                    f"cannot read {path}: {text_of(error)}; tried {number} time{'s' * (number > 1)} in {time.monotonic() - began:.0f} s: "
                    "check the network and the server, then start again (a node without internet needs a copy on a disk that it sees)"
                ) from error
            if wait_s == WAITS_S[0]:
                log.warning("%s: %s; trying again for %.0f s", path, text_of(error), sum(WAITS_S))
            time.sleep(wait_s)
    raise AssertionError("unreachable")
