"""Shared by the MLflow tests: run folders, rows, what a folder or a server of MLflow holds, and a real server."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import Config, parse_config
from dist_train.loggers.base import Facts
from dist_train.loggers.mlflow.logger import _session
from dist_train.loggers.mlflow.wanted import absolute
from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import read_rows
from dist_train.system.files import json_text, write_json
from tests.support.ranks import free_port
from tests.support.wandb_helpers import wait_for

VERSION = "3.17.2"


def config_of(run: RunDir, **mlflow: Any) -> Config:
    return parse_config(
        {
            "run": {"name": run.path.name, "output_dir": str(run.path.parent)},
            "model": {"name": "resnet18"},
            "data": {"root": "data"},
            "optim": {"lr": 0.1},
            "train": {"global_batch": 8},
            "log": {"mlflow": mlflow},
        }
    )


def session_of(run: RunDir, uri: str, **mlflow: Any) -> dict[str, Any]:
    cfg = config_of(run, uri=uri, **mlflow)
    return _session(cfg, Facts(run, 10, details={"attempt": 1, "git": {"commit": "abc"}}), absolute(uri))


def rows_of(step: int) -> list[dict[str, Any]]:
    rows = [{"step": step, "epoch": step / 10, "split": "train", "loss": 1 / step, "lr": 0.1}]
    if step % 5 == 0:
        rows.append({"step": step, "epoch": step / 10, "split": "val", "loss": None, "top1": 1 - 1 / step})
    return rows


def add_rows(run: RunDir, first: int, last: int) -> None:

    with open(run.metrics, "a") as file:
        file.writelines(json_text(row) + "\n" for step in range(first, last + 1) for row in rows_of(step))


def client_of(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def only_run(uri: str, experiment: str = "dist_train") -> Any:
    client = client_of(uri)
    (found,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return found


def logged(uri: str, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) of every value that MLflow has, in the order of steps."""
    client = client_of(uri)
    names = client.get_run(run_id).data.metrics
    return {
        name: sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, name))
        for name in names
    }


def assert_equal_to_file(run: RunDir, uri: str, run_id: str, without: tuple[str, ...] = ()) -> None:
    """Every number of ``metrics.jsonl`` once, and nothing else."""
    expected: dict[str, list[tuple[int, float]]] = {}
    for row in read_rows(run.metrics):
        for name, value in row.items():
            if name != "split":
                key = f"{row['split']}/{name}"
                expected.setdefault(key, []).append((row["step"], math.nan if value is None else float(value)))
    found = logged(uri, run_id)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in values], name
        if name.partition("/")[2] not in without:
            assert [value for _, value in found[name]] == pytest.approx([v for _, v in values], nan_ok=True), name


def processes_of(run: RunDir) -> list[int]:
    """The uploaders of this run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().decode()
        except (OSError, ValueError):
            continue
        if "mlflow.uploader" in line and str(run.path) in line:
            found.append(int(entry.name))
    return found


def session(run: RunDir, uri: str, **mlflow: Any) -> dict[str, Any]:
    """A session as the logger writes it, on disk too."""
    made = session_of(run, uri, **mlflow)
    (run.path / "mlflow").mkdir(exist_ok=True)
    write_json(run.path / "mlflow" / "session.json", made)
    return made


def server_environment(folder: Path) -> Path:
    """Install MLflow with its server into an environment of its own. Return its Python; skip if there is no registry."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", f"mlflow=={VERSION}"], capture_output=True, text=True, timeout=900
    )
    if done.returncode:
        pytest.skip(f"mlflow cannot be installed here: {done.stderr[-300:]}")
    return python


@contextmanager
def served(python: Path, folder: Path, port: int | None = None) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run a server of MLflow with a database and files in ``folder``."""
    port = port or free_port()
    folder.mkdir(exist_ok=True)
    options = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
    with open(folder / "server.log", "ab") as log:
        server = subprocess.Popen(
            [python, "-m", "mlflow", "server", *options, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: b"Application startup complete" in (folder / "server.log").read_bytes(), 120)
        yield f"http://127.0.0.1:{port}", server
    finally:
        end_group(server)


def end_group(server: "subprocess.Popen[bytes]") -> None:
    """Kill the server and its workers."""

    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
