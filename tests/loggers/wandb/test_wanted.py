"""W&B is used if the user asks for it, not if its package is installed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import Config, parse_config
from dist_train.loggers.base import Facts
from dist_train.loggers.wandb.files import session_path
from dist_train.loggers.wandb.logger import WandbLogger
from dist_train.loggers.wandb.wanted import VARIABLES, wanted_mode
from dist_train.run.folder import RunDir
from tests.support.runs import changed
from tests.support.wandb_helpers import isolated_run, wait_for

pytest.importorskip("wandb")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.delenv("NETRC", raising=False)
    return isolated_run(tmp_path, monkeypatch)


def config(tree: dict[str, Any], **wandb: Any) -> Config:
    return parse_config(changed(tree, log__wandb=wandb))


def test_nobody_has_asked(run: RunDir, tree: dict[str, Any]) -> None:
    assert wanted_mode(config(tree), run) == "disabled"
    assert wanted_mode(config(tree, mode="auto"), run) == "disabled", "the default, spelt out"
    logger = WandbLogger()
    logger.start(config(tree), Facts(run, total_steps=1))
    logger.row({"step": 1, "split": "train"})
    logger.close("done")
    assert not (run.path / "wandb").exists()


@pytest.mark.parametrize("key", [{"project": "p"}, {"group": "g"}, {"tags": ["a"]}, {"notes": "n"}])
def test_a_key_of_the_section_asks(run: RunDir, tree: dict[str, Any], key: dict[str, Any]) -> None:
    assert wanted_mode(config(tree, **key), run) == "auto"


@pytest.mark.parametrize("variable", sorted(set(VARIABLES) - {"WANDB_MODE"}))
def test_a_variable_asks(run: RunDir, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "")
    assert wanted_mode(config(tree), run) == "disabled"
    monkeypatch.setenv(variable, "x")
    assert wanted_mode(config(tree), run) == "auto"


@pytest.mark.parametrize("mode", ["online", "offline", "disabled"])
def test_the_mode_of_the_environment_counts_in_auto_only(
    run: RunDir, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert wanted_mode(config(tree), run) == mode
    assert wanted_mode(config(tree, mode="offline"), run) == "offline"
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert wanted_mode(config(tree, project="p"), run) == "disabled"


@pytest.mark.parametrize("server", ["https://api.wandb.ai", "https://wandb.example.org"])
def test_the_clients_own_login_asks(
    run: RunDir, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(run.path))
    login = f"import wandb; wandb.login(key='k' * 40, host={server!r}, verify=False)"
    # The client stores the key first, then asks the server who this is: for minutes where packets are dropped.
    client = subprocess.Popen([sys.executable, "-c", login], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: wanted_mode(config(tree), run) == "auto")
    finally:
        client.kill()  # wandb-core ends with its parent
        client.wait()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.another.org")
    assert wanted_mode(config(tree), run) == "disabled", "the key is for another server"


def test_a_run_that_is_logged_stays_logged(run: RunDir, tree: dict[str, Any]) -> None:
    session_path(run).parent.mkdir()
    session_path(run).write_text(json.dumps({"id": "abc"}))
    assert wanted_mode(config(tree), run) == "auto"
