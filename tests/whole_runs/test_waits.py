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
from dist_train.run.result import read_result
from dist_train.system.processes import children
from tests.support.ranks import run_ranks
from tests.support.runs import _main, changed, folder, rows, state_digest, train
from tests.support.shm import CAN_MOUNT, small_shm
from tests.support.waits import NOTE

LIMIT_S = 30.0
"""Three times what is promised: where tests share the cores, torchrun alone takes some seconds to end."""

HERE = "tests.support.waits"

PLACES: dict[str, dict[str, Any]] = {
    "data": {"augment__transforms": [{"name": f"{HERE}:Transform", "options": {"at": 30}}], "data__workers": 1},
    "data, without loader processes": {"augment__transforms": [{"name": f"{HERE}:Transform", "options": {"at": 30}}]},
    "a collective": {"loss__objective": f"{HERE}:Objective", "loss__objective_options": {"at": 6}},
    "a scan": {"data__format": f"{HERE}:scanned"},
    "a cache": {"data__format": f"{HERE}:cached", "augment__device": True},
    "a cache, in processes": {"data__format": f"{HERE}:cached", "augment__device": True, "data__workers": 1},
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
    assert started.process.returncode == (EXIT_STOPPED if ranks == 1 else 1), output
    assert traces.status() == "stopped", output
    assert read_result(traces.run)["message"]
    if place.startswith("data") or place == "a collective":
        assert traces.reached() > 0
        if ranks == 1:
            assert traces.saved()[-1] == traces.reached(), "not a step was lost"
    assert ranks > 1 or "Traceback" not in output, output  # torchrun prints its own
    assert f"{number.name}" in output, output


def test_a_run_that_was_left_goes_on_as_if_nothing_had_been(
    tree: dict[str, Any], start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waits for a batch saves the step before it: no step is done twice."""
    quiet = changed(tree, log__every_steps=1, **PLACES["data, without loader processes"])
    straight = train(quiet, run__name="straight")
    started = start(changed(tree, log__every_steps=1), "data, without loader processes", 1)
    os.kill(started.process.pid, signal.SIGTERM)
    assert _ended(started) < LIMIT_S
    traces = Traces(RunDir(folder(tree)))
    assert traces.saved()[-1] == traces.reached() == 2, "the third batch did not come"
    monkeypatch.delenv(NOTE)
    train(quiet)
    assert state_digest(folder(tree)) == state_digest(straight)
    assert rows(folder(tree)) == rows(straight)


def test_one_process_that_hangs_ends_after_the_timeout(tree: dict[str, Any], start: Any, tmp_path: Path) -> None:
    tree = changed(tree, distributed__timeout_s=2, checkpoint__every_steps=1)
    started = start(tree, "data, without loader processes", 1)
    assert _ended(started) < 40
    output = (tmp_path / "log").read_text()
    assert started.process.returncode == 1
    assert "Timeout: no progress for 2 s" in output
    assert "in wait" in output, "the stack shows where"
    result = read_result(RunDir(folder(tree)))
    assert (result["status"], result["error"]) == ("failed", "other")
    assert "no progress for `distributed.timeout_s` (2) seconds" in result["message"]


@pytest.mark.slow
def test_a_loader_process_that_dies_on_one_rank_is_told_as_that(tree: dict[str, Any], tmp_path: Path) -> None:
    tree = changed(tree, data__workers=1, train__epochs=10**4, log__every_steps=1, eval__every_steps=10**6)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    for killed in (0, 1):
        started = CommandStart(["--config", str(tmp_path / "run.yaml"), f"run.name=rank{killed}"], 2, tmp_path / "log")
        run = RunDir(folder(tree).with_name(f"rank{killed}"))
        assert wait_until(lambda run=run: Traces(run).reached() > 3, started, 120)  # type: ignore[misc]
        loaders = [pid for pid in children(started.ranks()[killed]) if "pt_data_worker" in _threads(pid)]
        assert len(loaders) == 1
        os.kill(loaders[0], signal.SIGKILL)
        assert wait_for_end(started, 60) < 60
        result = read_result(run)
        assert (result["status"], result["error"]) == ("failed", "other")
        assert result["message"].startswith(f"rank {killed}: a loader process was killed")


def _threads(pid: int) -> str:
    return "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/comm"))


@pytest.mark.skipif(not CAN_MOUNT, reason="needs a private mount, which root may make")
def test_the_shared_memory_of_docker_is_enough(tree: dict[str, Any]) -> None:
    """Batches of 4 x 5 x 12 images of 192 px take 26 MB, of which 1 MB would be there."""
    tree = changed(
        tree, data__workers=4, data__image_size=192, train__max_steps=2, train__epochs=1, eval__batch_size=12
    )
    assert run_ranks(1, _in_small_shm, tree) == [0]


def _in_small_shm(tree: dict[str, Any]) -> int:
    small_shm("1m")
    return _main(tree)
