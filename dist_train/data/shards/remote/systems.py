"""The file systems of fsspec that read remote archives."""

from typing import Any

SILENCE_S = 15.0
"""Google's server has failed when it sends nothing for so long: s3fs's limit. gcsfs sets none, and would wait forever."""


def system_of(path: str) -> Any:
    """Return the file system of an address.

    Raises:
        ImportError, ValueError: the package for this kind of address is not installed, or there is none.
    """
    protocol = path.partition("://")[0]
    if protocol in ("gs", "gcs"):
        return _google()
    import fsspec

    system = fsspec.filesystem(protocol, use_listings_cache=False)
    if protocol in ("s3", "s3a"):
        system.retries = 1  # botocore tries five times below it: a server that says nothing would cost half an hour
    return system


def _google() -> Any:
    """Return gcsfs's class that reads over HTTP.

    Its newer one, which fsspec would take, asks over gRPC what kind of bucket it is. After a fork the answer to that never arrives, so
    that the loader processes would hang.
    """
    from aiohttp import ClientTimeout
    from gcsfs.core import GCSFileSystem

    limits = ClientTimeout(sock_connect=SILENCE_S, sock_read=SILENCE_S)
    return GCSFileSystem(use_listings_cache=False, requests_timeout=limits)
