"""A server of Google Cloud Storage in a process of its own (gcp-storage-emulator), and the environment in which gcsfs finds it."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
from gcsfs.core import GCSFileSystem

BUCKET = "photos"


class GcsServer:
    """Starts with an empty bucket, which it holds in memory."""

    def __init__(self, patch: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{self.port}")
        patch.setenv("FSSPEC_GS_TOKEN", "anon")  # of the ranks; this process has read it already
        patch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        GCSFileSystem.clear_instance_cache()  # its instances know another address
        words = ["start", "--in-memory", "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        command = [sys.executable, "-m", "gcp_storage_emulator", *words, "--default-bucket", BUCKET]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert self._process.poll() is None
                time.sleep(0.05)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def system() -> Any:
    """Return the file system of the server: not the class that fsspec takes, which asks over gRPC first, and the emulator has none."""
    return GCSFileSystem(use_listings_cache=False)


def upload(folder: Path, name: str) -> str:
    """Put the archives of a folder on the server. Return their address."""
    for path in sorted(folder.glob("*.*")):
        system().pipe(f"gs://{BUCKET}/{name}/{path.name}", path.read_bytes())
    return f"gs://{BUCKET}/{name}"
