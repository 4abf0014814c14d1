"""A server of S3 in a process of its own (moto's), and the environment in which s3fs finds it."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec

BUCKET = "photos"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "name",
    "AWS_SECRET_ACCESS_KEY": "word",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
}


class S3Server:
    """Starts with an empty bucket; ``stop`` ends it, and ``start`` begins again at the same address."""

    def __init__(self, patch: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}).items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # its instances know another address
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server, wait until it answers, and make the bucket."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                assert self._process.poll() is None
                time.sleep(0.05)
        try:
            system().mkdir(BUCKET)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def system() -> Any:
    """Return the file system of the server."""
    return fsspec.filesystem("s3", use_listings_cache=False)


def upload(folder: Path, name: str) -> str:
    """Put the archives of a folder on the server. Return their address."""
    for path in sorted(folder.glob("*.*")):
        system().pipe(f"s3://{BUCKET}/{name}/{path.name}", path.read_bytes())
    return f"s3://{BUCKET}/{name}"
