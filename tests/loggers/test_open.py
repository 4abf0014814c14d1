"""The loggers of a run, and a logger that fails."""

import logging
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from dist_train.loggers.base import Facts
from dist_train.loggers.open import Loggers, open_loggers, own_loggers
from dist_train.run.folder import RunDir
from tests.support.loggers import Broken, RowFile
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, rows, train


def _main(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


def with_own(tree: dict[str, Any], name: str, **options: Any) -> dict[str, Any]:
    return changed(tree, log__loggers=[{"name": name, "options": options}])


def facts(tmp_path: Path) -> Facts:
    return Facts(RunDir(tmp_path), total_steps=9, details={"attempt": 1})


def test_loggers_given_in_code_come_beside_those_of_the_config(tree: dict[str, Any], tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    cfg = parse_config(with_own(tree, "tests.support.loggers:RowFile", path=str(first)))
    loggers = open_loggers(cfg, facts(tmp_path), given=[RowFile(str(second))])
    loggers.row({"step": 1, "epoch": 0.1, "split": "train", "loss": 1.0})
    loggers.close("done")
    assert first.read_text() == second.read_text() == (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("method", ["row", "tick", "image", "file", "close"])
def test_a_logger_that_fails_is_left_out_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    ours = logging.getLogger("dist_train")
    monkeypatch.setattr(ours, "handlers", [])  # another test in this process may have left one
    monkeypatch.setattr(ours, "propagate", True)
    broken, other = Broken(method), Broken("never")
    loggers = Loggers(Broken("never"), [broken, other])
    for _ in range(2):
        loggers.tick(1)
        loggers.row({"step": 1})
        loggers.image("x", 1, None)  # type: ignore[arg-type]
        loggers.file(Path())
        loggers.close("done")
    assert broken.calls == 1
    assert caplog.text.count("Broken failed and gets no more rows until the next start") == 1


def test_the_record_itself_may_not_fail() -> None:
    with pytest.raises(RuntimeError, match="is gone"):
        Loggers(Broken("row"), []).row({"step": 1})


def test_a_run_goes_on_without_a_logger_that_fails(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run = train(with_own(tree, "tests.support.loggers:Broken", method="row"), train__epochs=1)
    assert [row["step"] for row in rows(run)] == [2, 4, 5, 5]
    assert "RuntimeError: the server of this logger is gone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("tests.support.loggers:Missing", {}, "tests.support.loggers has no Missing"),
        ("tests.support.loggers:Broken", {"mehtod": "row"}, "does not accept its `options`: .*mehtod"),
        ("tests.support.loggers:NotALogger", {}, "makes a NotALogger; it must be a subclass of"),
    ],
)
def test_what_cannot_be_a_logger_is_named(tree: dict[str, Any], name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=rf"`log\.loggers` \({name}\).*{words}"):
        own_loggers(parse_config(with_own(tree, name, **options)).log)


def test_every_rank_ends_when_rank_0_cannot_start_a_logger(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ranks(2, _main, with_own(tree, "tests.support.loggers:NotALogger")) == [2, 2]
    assert capsys.readouterr().out.count("error: `log.loggers`") == 1
    assert not (folder(tree) / "metrics.jsonl").exists()


@pytest.mark.parametrize("name", ["NoModule", "a.b:", "a b:c"])
def test_a_name_that_is_not_a_class_is_a_config_error(tree: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=r"`log\.loggers.*must be package\.module:Class"):
        parse_config(with_own(tree, name))
