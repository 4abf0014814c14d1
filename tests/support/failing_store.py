"""A store of another machine, ``s3://``, ``gs://`` or ``hf://``, that fails on demand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from gcsfs.core import GCSFileSystem

from tests.support import gcs_server, s3_server
from tests.support.failing_proxy import FailingProxy
from tests.support.hub_server import HubServer, find_hub

SERVERS: dict[str, Any] = {"s3": s3_server.S3Server, "gs": gcs_server.GcsServer}
UPLOADS = {"s3": s3_server.upload, "gs": gcs_server.upload}


@contextmanager
def failing_store(kind: str, folder: Path, patch: Any) -> Iterator[tuple[str, FailingProxy]]:
    """Put the archives of a folder into a store. Yield its address there, and the proxy by which processes reach it from now on."""
    server = HubServer(folder.parent, patch) if kind == "hf" else SERVERS[kind](patch)
    proxy = FailingProxy(server.port)
    try:
        root = f"hf://datasets/me/photos/{folder.name}" if kind == "hf" else UPLOADS[kind](folder, folder.name)
        find_hub(proxy.url, patch)
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        patch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        for system in (fsspec.get_filesystem_class("s3"), GCSFileSystem):
            system.clear_instance_cache()
        yield root, proxy
    finally:
        proxy.stop()
        server.stop()
