"""A stop signal reaches a run wherever it waits: it saves or leaves within 10 s, and goes on from its last checkpoint."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.drill.faults import CommandStart, Traces, wait_for_end, wait_until
from dist_train.errors import EXIT_STOPPED
from dist_train.run.folder import RunDir
from tests.support.runs import changed, folder
from tests.support.waits import NOTE

LIMIT_S = 10.0
HERE = "tests.support.waits"

PLACES: dict[str, dict[str, Any]] = {
    "data": {"augment__transforms": [{"name": f"{HERE}:Transform", "options": {"at": 30}}], "data__workers": 1},
    "data, without loader processes": {"augment__transforms": [{"name": f"{HERE}:Transform", "options": {"at": 30}}]},
    "a collective": {"loss__objective": f"{HERE}:Objective", "loss__objective_options": {"at": 6}},
    "a scan": {"data__format": f"{HERE}:scanned"},
    "a cache": {"data__format": f"{HERE}:cached", "augment__device": True},
    "a download": {"model__name": "resnet18", "model__pretrained": True},
    "import": {},
}


@pytest.fixture
def silent_hub(tmp_path: Path) -> Iterator[str]:
    """An address that takes connections and answers nothing; it notes a question as ``waits`` does."""
    taken = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                taken.append(server.accept()[0])
                if taken[-1].recv(1):
                    (tmp_path / "waits").touch()

    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)  # ends the thread
    for connection in (server, *taken):
        connection.close()


@pytest.fixture
def start(tmp_path: Path, silent_hub: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start a run that will wait somewhere; return it when it waits."""

    def start(tree: dict[str, Any], place: str, ranks: int) -> CommandStart:
        note = tmp_path / "waits"
        monkeypatch.setenv(NOTE, str(note))
        monkeypatch.setenv("HF_ENDPOINT", silent_hub)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        if place == "import":
            _package_that_waits(tmp_path)
            monkeypatch.syspath_prepend(str(tmp_path))
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(changed(tree, data__cache=str(tmp_path / "cache"), **PLACES[place])))
        started = CommandStart(["--config", str(path)], ranks, tmp_path / "log")
        assert wait_until(note.exists, started, 120), (tmp_path / "log").read_text()
        time.sleep(1)  # the other rank comes to where it waits for this one
        return started

    return start


def _package_that_waits(folder: Path) -> None:
    (folder / "timm").mkdir()
    (folder / "timm" / "__init__.py").write_text("from tests.support.waits import wait\nwait()\n")


def _ended(started: CommandStart) -> float:
    began = time.monotonic()
    wait_for_end(started, 60)
    return time.monotonic() - began


FAST = [("data", 1, signal.SIGTERM), ("a scan", 1, signal.SIGHUP)]
SLOW = [
    (place, ranks, number)
    for place, number in zip(PLACES, [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT] * 2, strict=False)
    for ranks in (1, 2)
    if (place, ranks) not in {(fast, ranks) for fast, ranks, _ in FAST} | {("a collective", 1)}
]


@pytest.mark.parametrize(
    ("place", "ranks", "number"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_a_stop_signal_reaches_a_run_that_waits(
    tree: dict[str, Any], start: Any, tmp_path: Path, place: str, ranks: int, number: signal.Signals
) -> None:
    tree = changed(tree, checkpoint__every_steps=1, log__every_steps=1)
    started = start(tree, place, ranks)
    os.kill(started.process.pid, number)
    seconds, output = _ended(started), (tmp_path / "log").read_text()
    assert seconds < LIMIT_S, output
    traces = Traces(RunDir(folder(tree)))
    if place == "import":
        assert traces.status() == "none"
        assert started.process.returncode == (-number if ranks == 1 else 1)
        return
    assert started.process.returncode == (EXIT_STOPPED if ranks == 1 else 1), output
    if place.startswith("data") or place == "a collective":
        assert traces.status() == "stopped", output
        assert traces.reached() > 0
        if ranks == 1:
            assert traces.saved()[-1] == traces.reached(), "not a step was lost"
    assert ranks > 1 or "Traceback" not in output, output  # torchrun prints its own
    assert f"{number.name}" in output, output
