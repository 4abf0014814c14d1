"""A W&B server for tests: the GraphQL and file-stream calls that the real client makes, on loopback.

It keeps what a real server would keep of each run (config, summary, history lines, exit code, tags ...), and
can be told to hang, to answer 500 or to reject the key. ``python -m tests.support.wandb_stub [PORT]`` serves by hand.
"""

import contextlib
import gzip
import json
import re
import ssl
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

ENTITY = "tester"
Mood = Literal["ok", "hang", "error", "unauthorized"]


@dataclass
class StoredRun:
    """What the server knows of one run."""

    name: str
    project: str
    display_name: str = ""
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    event_lines: int = 0
    files: list[str] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    manifests: list[dict[str, Any]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    starts: int = 0

    def rows(self, *keys: str) -> list[tuple[Any, ...]]:
        """The history rows that hold all ``keys``, reduced to them."""
        lines = (self.history[offset] for offset in sorted(self.history))
        return [tuple(line[key] for key in keys) for line in lines if all(key in line for key in keys)]


class WandbStub:
    """``with WandbStub() as server``: listens on a free port of 127.0.0.1 until the block ends."""

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.mood: Mood = "ok"
        self._scheme = "http"
        self._released = threading.Event()
        stub = self

        class Handler(_Handler):
            server_state = stub

        self._http = _QuietServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_port}"

    def use_tls(self, certificate: Path, key: Path) -> None:
        """From now on speak https, as a company's own server does."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._scheme = "https"

    @property
    def run(self) -> StoredRun:
        """The only run; fails if there are several, or none."""
        (run,) = self.runs.values()
        return run

    def env(self) -> dict[str, str]:
        """What a client's environment needs to find this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "k" * 40}

    def __enter__(self) -> "WandbStub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Stop listening and drop hanging requests; a second call does nothing."""
        self._released.set()
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()

    def wait_while_hanging(self) -> None:
        while self.mood == "hang" and not self._released.wait(0.05):
            pass

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The ``data`` of the answer to one GraphQL request."""
        for name, answer in _ANSWERS:
            if re.search(rf"\b{name}\b", query):
                return answer(self, variables)
        self.unknown.append(query)
        return {}

    def stream(self, run: StoredRun, body: dict[str, Any]) -> None:
        """Take one file-stream message: offsets make a repeated one harmless."""
        files = body.get("files", {})
        history = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        for index, line in enumerate(history["content"]):
            run.history[history["offset"] + index] = json.loads(line)
        events = files.get("wandb-events.jsonl", {"offset": 0, "content": []})
        run.event_lines = max(run.event_lines, events["offset"] + len(events["content"]))
        for line in files.get("wandb-summary.json", {"content": []})["content"]:
            run.summary = json.loads(line)
        if body.get("preempting"):
            run.states.append("preempting")
        if body.get("complete"):
            run.exit_codes.append(body.get("exitcode", 0))


def _bucket(run: StoredRun) -> dict[str, Any]:
    project = {"id": "P", "name": run.project, "entity": {"id": "E", "name": ENTITY}}
    code = run.exit_codes[-1] if run.exit_codes else None
    state = (
        "running"
        if code is None
        else "finished"
        if code == 0
        else "preempted"
        if "preempting" in run.states
        else "failed"
    )
    config = json.dumps(run.config)
    return {
        "id": f"id-{run.name}",
        "name": run.name,
        "displayName": run.display_name,
        "description": run.notes,
        "notes": run.notes,
        "config": config,
        "summaryMetrics": json.dumps(run.summary),
        "systemMetrics": "{}",
        "historyLineCount": len(run.history),
        "eventsLineCount": run.event_lines,
        "logLineCount": 0,
        "historyTail": json.dumps([json.dumps(row) for row in run.history.values()][-1:]),
        "eventsTail": "[]",
        "wandbConfig": json.dumps({"t": {}}),
        "tags": run.tags,
        "group": run.group,
        "jobType": run.job_type,
        "state": state,
        "sweepName": None,
        "project": project,
        "projectId": "1",
        "createdAt": "2026-01-01T00:00:00",
        "heartbeatAt": "2026-01-01T00:00:00",
        "readOnly": False,
        "commit": None,
        "user": {"id": "U", "name": "Tester", "username": ENTITY},
        "files": {"edges": []},
        "fileCount": 0,
    }


def _upsert(stub: WandbStub, v: dict[str, Any]) -> dict[str, Any]:
    name = v["name"]
    run = stub.runs.setdefault(name, StoredRun(name, v.get("project") or "uncategorized"))
    run.display_name = v.get("displayName") or run.display_name or name
    run.group, run.job_type = v.get("groupName") or run.group, v.get("jobType") or run.job_type
    run.notes = v.get("notes") or run.notes
    run.tags = v.get("tags") or run.tags
    if v.get("config"):
        run.config = json.loads(v["config"])
    if v.get("state"):
        run.states.append(v["state"])
    inserted = run.starts == 0
    run.starts += 1
    return {"upsertBucket": {"bucket": _bucket(run), "inserted": inserted}}


def _resume_status(stub: WandbStub, v: dict[str, Any]) -> dict[str, Any]:
    run = stub.runs.get(v["name"])
    if run is None:
        return {"model": None}
    model = {"id": "P", "name": run.project, "entity": {"id": "E", "name": ENTITY}, "bucket": _bucket(run)}
    return {"model": model}


def _viewer(_: WandbStub, __: dict[str, Any]) -> dict[str, Any]:
    viewer = {"id": "U", "entity": ENTITY, "username": ENTITY, "email": "t@localhost", "flags": "{}", "admin": False}
    return {"viewer": viewer | {"teams": {"edges": []}}, "serverInfo": {"features": []}}


def _one_run(stub: WandbStub, v: dict[str, Any]) -> dict[str, Any]:
    run = stub.runs.get(v.get("name") or v.get("run") or "")
    return {"project": {"id": "P", "internalId": "1", "run": _bucket(run) if run else None}}


def _all_runs(stub: WandbStub, v: dict[str, Any]) -> dict[str, Any]:
    edges = [{"node": _bucket(run), "cursor": "c"} for run in stub.runs.values()]
    page = {"endCursor": "c", "hasNextPage": False}
    runs = {"edges": edges, "totalCount": len(edges), "pageInfo": page}
    return {"project": {"id": "P", "internalId": "1", "readOnly": False, "runCount": len(edges), "runs": runs}}


def _run_files(stub: WandbStub, v: dict[str, Any]) -> dict[str, Any]:
    run = stub.runs[v["run"]]
    run.files += v["files"]
    files = [{"name": name, "uploadUrl": f"{stub.url}/upload/{run.name}/{name}"} for name in v["files"]]
    return {"createRunFiles": {"runID": f"id-{run.name}", "uploadHeaders": [], "files": files}}


def _create_artifact(stub: WandbStub, v: dict[str, Any]) -> dict[str, Any]:
    given = v.get("input") or v
    stub.runs[given["runName"]].artifacts.append(given)
    artifact = {
        "id": "A",
        "state": "PENDING",
        "digest": given["digest"],
        "artifactSequence": {"id": "S", "latestArtifact": None},
    }
    return {"createArtifact": {"artifact": artifact}}


def _manifest(stub: WandbStub, v: dict[str, Any]) -> dict[str, Any]:
    file = {"id": "F", "name": "m", "displayName": "m", "uploadUrl": f"{stub.url}/manifest", "uploadHeaders": []}
    return {"createArtifactManifest": {"artifactManifest": {"id": "M", "file": file}}}


_ANSWERS = [
    ("upsertBucket", _upsert),
    ("RunResumeStatus", _resume_status),
    ("createRunFiles", _run_files),
    ("createArtifactManifest", _manifest),
    ("updateArtifactManifest", _manifest),
    ("createArtifact", _create_artifact),
    ("createArtifactFiles", lambda *_: {"createArtifactFiles": {"files": {"edges": []}}}),
    ("commitArtifact", lambda *_: {"commitArtifact": {"artifact": {"id": "A", "digest": "d"}}}),
    ("useArtifact", lambda *_: {"useArtifact": {"artifact": {"id": "A", "digest": "d"}}}),
    ("ArtifactType", lambda *_: {"project": {"artifact": None}}),
    ("organization", lambda *_: {"entity": {"organization": None}}),
    ("runs", _all_runs),
    ("run", _one_run),
    ("viewer", _viewer),
    ("serverInfo", _viewer),
]


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: WandbStub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve({})

    def do_PUT(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        self._serve(None)

    def _serve(self, fixed: dict[str, Any] | None) -> None:
        body = self._body()
        stub = self.server_state
        stub.requests.append(self.path)
        stub.wait_while_hanging()
        if stub.mood == "unauthorized" and "otel" not in self.path:
            return self._reply({"errors": [{"message": "unauthorized"}]}, 401)
        if stub.mood != "ok":
            return self._reply({"error": "stub"}, 500)
        return self._reply(self._answer(body) if fixed is None else fixed, 200)

    def _answer(self, body: bytes) -> dict[str, Any]:
        stub = self.server_state
        if self.path.startswith("/graphql"):
            request = json.loads(body)
            return {"data": stub.graphql(request["query"], request.get("variables") or {})}
        if found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            stub.stream(stub.runs[found[1]], json.loads(body))
        return {}

    def _body(self) -> bytes:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw

    def _reply(self, answer: dict[str, Any], status: int) -> None:
        data = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # the client gave up, or was killed


if __name__ == "__main__":
    with WandbStub(int(sys.argv[1]) if sys.argv[1:] else 0) as server:
        print(f"export WANDB_BASE_URL={server.url} WANDB_API_KEY={'k' * 40}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
