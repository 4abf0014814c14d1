"""A proxy in front of a server of HTTP, which fails as networks and servers do."""

import socket
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = int | str | None
"""A status of HTTP to answer with; "silent": no answer; "cut", "stall": half an answer, then the end or silence."""


class FailingProxy:
    """Passes requests on to a server of this machine, except those that ``fault`` (method, path, part of the file) names a fault for.

    Attributes:
        passed, failed: requests so far: method, path and the part of the file that is asked for; after the name of the fault.
    """

    def __init__(self, port: int) -> None:
        self.fault: Callable[[str], Fault] = lambda request: None
        self.failed: list[str] = []
        self.passed: list[str] = []
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self, "to": port}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def fail(self, *faults: Fault, word: str = "") -> None:
        """Fail the next requests that have this word; without ``faults`` none from now on."""
        coming = list(faults)
        self.fault = lambda request: coming.pop(0) if coming and word in request else None

    def fail_all(self, fault: Fault, word: str = "") -> None:
        """Fail all requests that have this word."""
        self.fault = lambda request: fault if word in request else None

    def wait(self) -> None:
        """Wait for the end of the proxy."""
        self._over.wait()

    def stop(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a process that ends leaves its request."""


class _Handler(BaseHTTPRequestHandler):
    proxy: FailingProxy
    to: int

    def log_message(self, *args: Any) -> None:
        pass

    def _pass(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = f"{self.command} {self.path} {self.headers.get('Range')}"
        fault = self.proxy.fault(request)
        if fault is None:
            self.proxy.passed.append(request)
        else:
            self.proxy.failed.append(f"{fault} {request}")
        if fault == "silent":
            return self.proxy.wait()
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        upstream = HTTPConnection("127.0.0.1", self.to)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        if answer.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault else content)
        if fault == "stall":
            self.proxy.wait()
        elif fault == "cut":
            self.connection.shutdown(socket.SHUT_RDWR)
        return None

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _pass
