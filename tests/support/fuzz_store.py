"""A store of S3 that the data of a fuzz lie in, and that fails on demand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.failing_proxy import FailingProxy
from tests.support.s3_server import S3Server, upload


@contextmanager
def failing_store(folder: Path) -> Iterator[tuple[str, FailingProxy]]:
    """Put the archives of a folder into a store. Yield their address, and the proxy by which all processes reach it from now on."""
    with pytest.MonkeyPatch.context() as patch:
        server = S3Server(patch)
        proxy = FailingProxy(server.port)
        try:
            root = upload(folder, "set")
            patch.setenv("AWS_ENDPOINT_URL", proxy.url)
            yield root, proxy
        finally:
            proxy.stop()
            server.stop()
