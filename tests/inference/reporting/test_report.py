"""From a run folder to its page."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from dist_train.errors import ConfigError
from dist_train.inference.reporting.looks import looks
from dist_train.inference.reporting.report import report
from tests.support.pages import Page
from tests.support.ranks import run_ranks


def test_the_page_of_a_finished_run(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.iterdir())
    assert report(path, tmp_path / "page.html", 4) == 0
    assert sorted(path.iterdir()) == before
    assert capsys.readouterr().out == f"report: {tmp_path / 'page.html'}\n"
    page = Page((tmp_path / "page.html").read_text())
    assert list(page.outside()) == []
    assert 4 <= page.count("img") <= 8
    assert [words in page.text for words in ("best top1", "data.image_size", "ROC", "Classes", "grad_norm")] == [
        True
    ] * 5


def test_images_that_are_gone_are_said(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(path, tmp_path / "run")
    assert report(run, None, 4, ["data.root=gone"]) == 0
    page = Page((run / "report.html").read_text())
    assert page.count("img") == 0
    assert "no images: `data.root` (gone)" in page.text
    assert "no images: `data.root` (gone)" in capsys.readouterr().out


def test_a_page_without_images(path: Path, tmp_path: Path) -> None:
    assert report(path, tmp_path / "page.html", 0) == 0
    assert Page((tmp_path / "page.html").read_text()).count("img") == 0


def test_what_is_wrong_is_said_before_the_work(path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(ConfigError, match="is not a run folder"):
        report(tmp_path, None, 4)
    with pytest.raises(ConfigError, match=r"must end in \.html"):
        report(path, tmp_path / "page.txt", 4)
    monkeypatch.setattr("dist_train.inference.reporting.report.missing_packages", lambda: ["scikit-learn"])
    with pytest.raises(ConfigError, match=r"report needs scikit-learn: .* extra `report`"):
        report(path, tmp_path / "page.html", 4)


@pytest.mark.slow
def test_where_the_model_looked(path: Path, tmp_path: Path) -> None:
    assert run_ranks(1, report, path, tmp_path / "page.html", 3, (), False, looks) == [0]
    page = Page((tmp_path / "page.html").read_text())
    assert list(page.outside()) == []
    assert page.count("img") >= 6
    assert "where the best weights looked" in page.text


def test_captum_is_missing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ConfigError, match="--cam needs captum"):
        report(path, tmp_path / "page.html", 3, looks=looks)
