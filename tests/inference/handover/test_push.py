"""``--push`` against a hub on this machine, which answers the calls that huggingface_hub makes."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dist_train.errors import ConfigError, DistTrainError
from dist_train.export import main
from dist_train.inference.handover.push import FILES, check_repository, push
from tests.support.ranks import free_port, run_ranks

Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Keeps what was created and committed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.created: list[dict[str, Any]] = []
        self.files: Files = {}
        self.refuses = False


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        found = {"sha": "0" * 40, "id": "org/name", "siblings": []}
        self._answer(401 if self.server.refuses else 200, found)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refuses:
            return self._answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self._answer(200, {"url": f"{self.server.address}/org/name"})
        if "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        if "/commit/" in self.path:
            for entry in map(json.loads, body.splitlines()):
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self._answer(200, {"commitUrl": f"{self.server.address}/org/name/commit/1", "commitOid": "1"})
        return self._answer(200, {"errors": [], "warnings": []})

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*FILES, "private.txt"):
        (tmp_path / name).write_text(f"content of {name}")
    return tmp_path


def _pushed(folder: Path, name: str, endpoint: str) -> str:
    import os

    os.environ |= {"HF_TOKEN": "hf_of_a_test", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        push(folder, name, endpoint)
    except DistTrainError as error:
        return str(error)
    return ""


def test_the_folder_is_uploaded_to_a_private_repository(hub: Hub, folder: Path) -> None:
    assert run_ranks(1, _pushed, folder, "org/name", hub.address) == [""]
    (created,) = hub.created
    assert (created["name"], created["organization"]) == ("name", "org")
    assert created.get("private") is True or created.get("visibility") == "private"
    assert hub.files == {name: (folder / name).read_bytes() for name in FILES}


def test_a_refusal_and_a_hub_that_is_away(hub: Hub, folder: Path) -> None:
    hub.refuses = True
    (said,) = run_ranks(1, _pushed, folder, "org/name", hub.address)
    assert said.startswith(f"--push (org/name) to {hub.address} failed: ")
    assert f"{folder} is complete. `hf auth login` or HF_TOKEN" in said
    assert not hub.files
    (said,) = run_ranks(1, _pushed, folder, "org/name", f"http://127.0.0.1:{free_port()}")
    assert "failed: " in said


@pytest.mark.parametrize("name", ["name", "org/name/more", "org/na me", "org/", ""])
def test_what_is_no_repository(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--push \("):
        check_repository(name)


def test_it_is_for_timm(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "--push", "org/name"])
