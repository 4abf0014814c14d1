"""A server that answers as the Hugging Face Hub does about one data set, ``me/photos``: its files lie in a folder."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec

API, FILES = "/api/datasets/me/photos", "/datasets/me/photos/resolve/main/"


class HubServer:
    """Serves the files of ``folder`` in a thread; the file system of fsspec finds it by its config."""

    def __init__(self, folder: Path, patch: Any) -> None:
        handler = type("Handler", (_Handler,), {"folder": folder})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        endpoint = f"http://127.0.0.1:{self._server.server_port}"
        patch.setenv("HF_ENDPOINT", endpoint)  # of the ranks; this process has read both already
        patch.setenv("HF_HUB_OFFLINE", "0")
        patch.setitem(fsspec.config.conf, "hf", {"endpoint": endpoint, "token": False})
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    folder: Path

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"{API}/tree/main"):
            self._answer(200, json.dumps(self._listed(path.removeprefix(f"{API}/tree/main").strip("/"))).encode())
        elif path == API:
            self._answer(200, json.dumps({"id": "me/photos", "sha": "0" * 40, "siblings": []}).encode())
        elif path.startswith(FILES) and (self.folder / path.removeprefix(FILES)).is_file():
            content = (self.folder / path.removeprefix(FILES)).read_bytes()
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
            assert part is not None
            self._answer(206, content[int(part[1]) : int(part[2]) + 1])
        else:
            self._answer(404, b"{}", "EntryNotFound" if path.startswith((API, FILES)) else "RepoNotFound")

    def _listed(self, below: str) -> list[dict[str, Any]]:
        return [
            {"type": "directory", "path": str(path.relative_to(self.folder)), "oid": "", "size": 0}
            if path.is_dir()
            else {
                "type": "file",
                "path": str(path.relative_to(self.folder)),
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
                "size": path.stat().st_size,
            }
            for path in sorted((self.folder / below).iterdir())
        ]

    def _answer(self, status: int, body: bytes, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        self.wfile.write(body)
