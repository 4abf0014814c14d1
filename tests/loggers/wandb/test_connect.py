"""If the server cannot be used, the run is logged offline, with the reason."""

import shutil
import subprocess
from pathlib import Path

import pytest

from dist_train.loggers.wandb.connect import _knock
from dist_train.run.folder import RunDir
from tests.support.wandb_helpers import (
    expected,
    logged_offline,
    server_rows,
    train,
)
from tests.support.wandb_stub import Mood, WandbStub

SLACK_S = 3.0
"""Two shared cores: what a wait may take beyond its bound."""


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("hang", "does not answer"),
        ("error", "answers 500"),
        ("unauthorized", "unauthorized"),
        ("dead", "does not answer"),
    ],
)
def test_trouble_at_the_start_makes_the_run_offline(
    run: RunDir, server: WandbStub, mood: Mood | str, reason: str
) -> None:
    server.kill() if mood == "dead" else setattr(server, "mood", mood)
    times, seen = train(run, 0, 10, "done", 0.05, env=server.env())
    assert logged_offline(run) == expected(10)
    (line,) = seen.splitlines()
    assert line.startswith("W&B: offline, because")
    assert reason in line
    assert times["loop_s"] < 0.5 + SLACK_S
    assert times["close_s"] < 10 + SLACK_S


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_wandb_itself_judges_a_servers_certificate(run: RunDir, server: WandbStub, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server.use_tls(certificate, key)
    _, seen = train(run, 0, 5, "stopped", env=server.env())
    assert "W&B: offline, because" in seen
    assert "failed to verify certificate" in seen
    train(run, 5, 10, "done", env=server.env() | {"WANDB_INSECURE_DISABLE_SSL": "true"})
    assert server_rows(server) == expected(10)


@pytest.mark.parametrize("url", [Path(__file__).as_uri(), "data:,answer", "ftp://127.0.0.1/", "127.0.0.1:8080", ""])
def test_an_address_that_is_not_one_of_the_web_is_not_opened(url: str) -> None:
    with pytest.raises(ValueError, match="is not an address of a W&B server"):
        _knock(url)  # without the check urllib would open the first two


def test_the_scheme_may_be_in_capitals(server: WandbStub) -> None:
    _knock(server.url.replace("http", "HTTP"))


def test_empty_variables_do_no_harm(run: RunDir) -> None:
    names = ("API_KEY", "ENTITY", "PROJECT", "MODE", "RUN_GROUP", "TAGS", "BASE_URL", "DIR", "INIT_TIMEOUT", "RUN_ID")
    _, seen = train(run, 0, 5, "done", env={f"WANDB_{name}": "" for name in names})
    assert logged_offline(run) == expected(5)
    assert "there is no API key" in seen


@pytest.mark.parametrize(
    ("variable", "value", "start"),
    [
        ("WANDB_API_KEY", "too-short", "W&B: offline, because AuthenticationError: WANDB_API_KEY invalid"),
        ("WANDB_BASE_URL", "nonsense", "W&B: off, because offline mode failed: ValidationError"),
    ],
)
def test_variables_that_cannot_be_right(run: RunDir, variable: str, value: str, start: str) -> None:
    _, seen = train(run, 0, 5, "done", env={"WANDB_API_KEY": "k" * 40, variable: value})
    (line,) = seen.splitlines()
    assert line.startswith(start)
