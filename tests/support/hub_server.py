"""A server that answers as the Hugging Face Hub does about one data set, ``me/photos``: its files lie in a folder."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec

API, FILES = "/api/datasets/me/photos", "/datasets/me/photos/resolve/"


class HubServer:
    """Serves the files of ``folder`` in a thread; the file system of fsspec finds it by its config.

    Attributes:
        asked: the paths of all requests, and the parts of files that they asked for.
    """

    def __init__(self, folder: Path, patch: Any) -> None:
        self.asked: list[str] = []
        handler = type("Handler", (_Handler,), {"folder": folder, "asked": self.asked, "commits": {}})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self._server.server_port
        find_hub(f"http://127.0.0.1:{self.port}", patch)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def find_hub(endpoint: str, patch: Any) -> None:
    """Let this process, and those that tests start, take a server for the Hub."""
    patch.setenv("HF_ENDPOINT", endpoint)  # of commands
    patch.setenv("HF_HUB_OFFLINE", "0")
    patch.setenv("FSSPEC_HF_ENDPOINT", endpoint)  # of ranks, which are forked with huggingface_hub's constants
    patch.setitem(fsspec.config.conf, "hf", {"endpoint": endpoint, "token": False})
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    patch.setattr("dist_train.data.shards.remote.hub._commits", {})


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    asked: list[str]
    commits: ClassVar[dict[str, dict[str, bytes]]]

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} {self.headers['Range']}")
        path = self.path.partition("?")[0]
        if path == API:
            path = f"{API}/revision/main"
        elif not path.startswith((f"{API}/", FILES)):
            return self._missing("RepoNotFound")
        kind, revision, below = re.fullmatch(rf"(?:{API}/|/datasets/me/photos/)(\w+)/(\w+)/?(.*)", path).groups()  # type: ignore[union-attr]
        commit = self._commit() if revision == "main" else revision
        if (files := self.commits.get(commit)) is None:
            return self._missing("RevisionNotFound")
        if kind == "revision":
            return self._answer(200, json.dumps({"id": "me/photos", "sha": commit, "siblings": []}).encode())
        if kind == "tree":
            return self._answer(200, json.dumps(_listed(files, f"{below}/" if below else "")).encode())
        if below not in files:
            return self._missing("EntryNotFound")
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert part is not None
        return self._answer(206, files[below][int(part[1]) : int(part[2]) + 1])

    def _commit(self) -> str:
        """Return the commit that has the files as they are now."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        files = {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}
        commit = hashlib.sha1(repr(files).encode()).hexdigest()
        self.commits[commit] = files
        return commit

    def _missing(self, error: str) -> None:
        self._answer(404, b"{}", error)

    def _answer(self, status: int, body: bytes, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        self.wfile.write(body)


def _listed(files: dict[str, bytes], folder: str) -> list[dict[str, Any]]:
    """Return what lies in a folder, and not deeper."""
    found: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        if path.startswith(folder):
            name, deeper, _ = path.removeprefix(folder).partition("/")
            kind, oid = ("directory", "") if deeper else ("file", hashlib.sha1(content).hexdigest())
            size = 0 if deeper else len(content)
            found[name] = {"type": kind, "path": folder + name, "oid": oid, "size": size}
    return list(found.values())
