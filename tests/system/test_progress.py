"""Long work says how far it is."""

import logging

import pytest

from dist_train.system import progress
from dist_train.system.progress import advance, advanced, shown


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(progress, "REPORT_EVERY_S", -1.0)
    caplog.set_level(logging.INFO, "dist_train")


def test_what_is_done_is_said_with_and_without_a_total(caplog: pytest.LogCaptureFixture) -> None:
    with shown("scanning /data", "files"):
        advance(1500)
        with shown("decoding", "images", 4):
            advance()
        advance()
    advance()  # nothing is shown
    assert caplog.messages == [
        "scanning /data: 1,500 files after 0 s",
        "decoding: 1 of 4 images (25%) after 0 s",
        "scanning /data: 1,501 files after 0 s",
    ]


def test_short_work_says_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REPORT_EVERY_S", 100.0)
    before = advanced()
    with shown("scanning /data", "files"):
        advance(10**6)
    assert caplog.messages == []
    assert advanced() > before


def test_after_an_error_nothing_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError), shown("scanning /data", "files"):
        raise KeyError
    advance()
    assert caplog.messages == []
