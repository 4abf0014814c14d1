"""``log.report``: the page at the end of a run."""

from pathlib import Path
from typing import Any

import pytest

import dist_train.training.report.run_page as module
from dist_train.config import parse_config
from dist_train.config.sections.log import LogConfig
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.inference.config_check import check
from dist_train.run.folder import RunDir
from dist_train.training.report.run_page import write_page
from dist_train.training.setup import build_setup
from tests.support.pages import Page
from tests.support.runs import changed, train


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_run_that_is_done_has_its_page(
    tree: dict[str, Any], world_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(changed(tree, log__report=True, distributed__timeout_s=600), world_size)
    assert f"report: {run / 'report.html'}" in capsys.readouterr().out
    page = Page((run / "report.html").read_text())
    assert "done" in page.text
    assert page.count("img") > 0


def test_a_page_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "failure_of", lambda words, timeout_s: "error: no room")
    assert not write_page(RunDir(tmp_path), 600)
    assert "report.html was not written: error: no room. Try" in caplog.text


def test_a_missing_package_is_an_error_before_the_first_step(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACKAGES", {"no_such_module": "no-such-package"})
    module.refuse_without_packages(LogConfig())
    cfg = parse_config(changed(tree, log__report=True))
    for start in (lambda: check(cfg, 1), lambda: build_setup(cfg, Dist.alone())):
        with pytest.raises(ConfigError, match=r"`log\.report` needs no-such-package: pip install no-such-package"):
            start()
