"""Archives that lie elsewhere: ``s3://``, ``gs://``, ``hf://`` and whatever else fsspec opens.

https://filesystem-spec.readthedocs.io. Passwords and endpoints are those that its libraries find for themselves: in the environment, or
in their own files. The file system is asked for at each call: after a fork fsspec gives the process one of its own.
"""

import errno
import hashlib
import io
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from dist_train.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

log = logging.getLogger(__name__)

Result = TypeVar("Result")

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Between two attempts. The libraries try several times too: s3fs for seconds, gcsfs for half a minute."""

PATIENCE_S = 90.0
"""After this time no attempt begins, however few there were."""

SILENCE_S = 15.0
"""Google's server has failed when it sends nothing for so long: s3fs's limit. gcsfs sets none, and would wait forever."""

VERSIONS = ("ETag", "etag", "generation", "blob_id", "LastModified", "last_modified", "mtime", "created")
"""What says that a file has changed; the first that its file system gives counts."""

AGAIN = (408, 425, 429)
"""Statuses of HTTP below 500 after which another attempt may succeed (RFC 9110, 8470, 6585)."""

OF_THE_REQUEST = (errno.EINVAL, errno.EPERM, errno.ENAMETOOLONG)
"""Error numbers that s3fs gives to answers that call the request wrong."""

OF_PYTHON = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError)
"""Errors that a library raises for a wrong address or setting. Subclasses are not meant: a truncated answer may raise them."""

OF_A_CONNECTION = {
    "HTTPClientError", "ConnectionError", "IncompleteReadError", "CredentialRetrievalError", "MetadataRetrievalError",
}  # fmt: skip
"""Errors of botocore after which another attempt may succeed. Its other errors are of a setting, such as missing credentials."""

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; FSSPEC_S3_ANON=true reads a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS; FSSPEC_GS_TOKEN=anon reads a public bucket",
    "hf": "HF_TOKEN",
}
"""Where the libraries look for credentials, by protocol."""

Version = tuple[int, int]
"""Size in bytes, and a number of 60 bits that stands for the ETag: as a time in ns it is long ago."""


def files_below(root: str) -> dict[str, Version]:
    """Return the files of a remote folder and of its subfolders, by their paths relative to it.

    Of a root that is an archive itself, return this one, by an empty path.

    Raises:
        DataError: see ``read``.
    """

    def listed(system: Any) -> dict[str, Version]:
        about = _info(system, root)
        if about["type"] == "file":
            return {"": _version(about)}
        top = system._strip_protocol(root).rstrip("/") + "/"
        found = system.find(root, maxdepth=2, detail=True)
        return {path.removeprefix(top): _version(about) for path, about in sorted(found.items())}

    return _tried(root, listed)


def version_of(path: str) -> Version:
    """Return what a file is now; raise ``DataError`` as ``read`` does."""
    return _tried(path, lambda system: _version(_info(system, path)))


def read(path: str, offset: int, length: int) -> bytes:
    """Return a part of a file, less where the file ends before.

    Raises:
        DataError: it is missing, or it cannot be read: at once where another attempt cannot help, else after several.
    """
    if not length:
        return b""
    return _tried(path, lambda system: bytes(system.cat_file(path, start=offset, end=offset + length)))


class RemoteFile(io.RawIOBase):
    """A remote file, read where it is asked for: put a large buffer in front of it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path, self._place = path, 0
        self._size, _ = version_of(path)

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
        content = read(self._path, self._place, wanted)
        if len(content) != wanted:
            raise DataError(f"cannot read {self._path}: it has become shorter meanwhile; start again")
        target[:wanted] = content
        self._place += wanted
        return wanted


def _info(system: Any, path: str) -> dict[str, Any]:
    """Return what the server says of a file now; without a call of invalidate_cache huggingface_hub answers from its cache."""
    system.invalidate_cache(path)
    found: dict[str, Any] = system.info(path)
    return found


def _version(about: dict[str, Any]) -> Version:
    text = next((f"{key}={about[key]}" for key in VERSIONS if about.get(key) is not None), "")
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 4
    return int(about["size"]), number


def _tried(path: str, call: Callable[[Any], Result]) -> Result:
    """Call a function with the file system of a path, several times if it fails and another attempt may succeed."""
    began = time.monotonic()
    for number, wait_s in enumerate((*WAITS_S, None), 1):
        try:
            return call(_system(path))
        except Exception as error:
            if not _may_heal(error):
                raise _refused(path, error) from None
            if wait_s is None or time.monotonic() - began + wait_s > PATIENCE_S:
                raise DataError(
                    f"cannot read {path}: {_text(error)}; tried {number} time{'s' * (number > 1)} in {time.monotonic() - began:.0f} s: "
                    "check the network and the server, then start again"
                ) from error
            if wait_s == WAITS_S[0]:
                log.warning("%s: %s; trying again for %.0f s", path, _text(error), sum(WAITS_S))
            time.sleep(wait_s)
    raise AssertionError("unreachable")


def _may_heal(error: Exception) -> bool:
    """Return whether another attempt may succeed: if the network or the server failed, not if the request or a setting is wrong.

    The first of an error and its causes for which ``_tells`` knows an answer decides.
    """
    return next((heals for cause in _causes(error) if (heals := _tells(cause)) is not None), True)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _tells(error: BaseException) -> bool | None:
    """Return whether another attempt may succeed after this error; None if the error does not show it."""
    if isinstance(error, DataError | FileNotFoundError | PermissionError) or type(error) in OF_PYTHON:
        return False
    if isinstance(error, OSError) and error.errno in OF_THE_REQUEST:
        return False
    if (status := _status(error)) is not None:
        return status >= 500 or status in AGAIN
    names = {kind.__name__ for kind in type(error).__mro__}
    if "BotoCoreError" in names:
        return bool(names & OF_A_CONNECTION)
    if "OfflineModeIsEnabled" in names:  # of huggingface_hub: HF_HUB_OFFLINE is set
        return False
    heals: bool | None = getattr(error, "retryable", None)  # of google.auth
    return heals


def _status(error: BaseException) -> int | None:
    """Return the HTTP status in an error of botocore, gcsfs, aiohttp or huggingface_hub; None if it has none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:
        status = getattr(response, "status_code", None)
    else:
        status = getattr(error, "status", getattr(error, "code", None))
    return status if isinstance(status, int) and status >= 400 else None


def _refused(path: str, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    if isinstance(error, FileNotFoundError):
        return DataError(f"cannot read {path}: {_missing(path, error)}")
    kinds = {type(cause).__name__ for cause in _causes(error)}
    denied = isinstance(error, PermissionError) or any(_status(cause) in (401, 403) for cause in _causes(error))
    if denied or any("Credentials" in kind or kind == "ProfileNotFound" for kind in kinds):
        where = CREDENTIALS.get(path.partition("://")[0], "")
        return DataError(
            f"cannot read {path}: {_text(error)}; check the credentials in this process's environment{where and f' ({where})'}"
        )
    return DataError(
        f"cannot read {path}: {_text(error)}; correct the address, or the settings of the library that reads it"
    )


def _missing(path: str, error: Exception) -> str:
    """Return a text that says what does not exist: the bucket, or a file or folder in it."""
    bucket, _, inside = path.partition("://")[2].strip("/").partition("/")
    unknown = any(type(cause).__name__ == "NoSuchBucket" for cause in _causes(error))
    return f"the bucket {bucket} does not exist" if unknown or not inside else "file or folder not found"


def _text(error: Exception) -> str:
    """Return the first line of an error, and the second one after a colon: "Parameter validation failed:" says nothing."""
    if isinstance(error, TimeoutError) and not str(error):
        return "the server did not answer in time"
    first, more, *_ = [*filter(None, str(error).splitlines()), "", ""]
    return f"{first} {more}" if first.endswith(":") and more else first or type(error).__name__


def _system(path: str) -> Any:
    protocol = path.partition("://")[0]
    try:
        if protocol in ("gs", "gcs"):
            return _google()
        import fsspec

        return fsspec.filesystem(protocol, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise DataError(
            f"cannot read {path}: {_text(error)}; pip install 'dist_train[remote]' reads s3:// and gs://, and fsspec names the package for others"
        ) from None


def _google() -> Any:
    """Return gcsfs's class that reads over HTTP.

    Its newer one, which fsspec would take, asks over gRPC what kind of bucket it is. After a fork the answer to that never arrives, so
    that the loader processes would hang.
    """
    from aiohttp import ClientTimeout
    from gcsfs.core import GCSFileSystem

    limits = ClientTimeout(sock_connect=SILENCE_S, sock_read=SILENCE_S)
    return GCSFileSystem(use_listings_cache=False, requests_timeout=limits)
