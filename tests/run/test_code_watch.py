"""Changes of the code under a running process are found: each one once, of this package and of the user's modules."""

import importlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_train.run import code_watch
from dist_train.run.code_watch import MOST_FILES, CodeWatch, note_changed_code
from dist_train.run.folder import RunDir


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A loaded package of the user."""
    package = tmp_path / "my_code_that_is_watched"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(f"{package.name}.parts")
    yield package
    for name in (package.name, f"{package.name}.parts"):
        del sys.modules[name]


def _found(watch: CodeWatch) -> list[str]:
    watch.look()
    return watch.news(30.0)


def test_a_change_is_found_once(own_module: Path) -> None:
    watch = CodeWatch()
    assert _found(watch) == []
    (own_module / "parts.py").write_text("A = 12\n")
    assert _found(watch) == [str(own_module / "parts.py")]
    (own_module / "parts.py").write_text("A = 123\n")
    assert _found(watch) == []
    shutil.rmtree(own_module)
    assert _found(watch) == [str(own_module / "__init__.py")]


def test_a_change_of_the_same_size_is_found_by_its_time(own_module: Path) -> None:
    watch = CodeWatch()
    (own_module / "parts.py").write_text("A = 2\n")
    os.utime(own_module / "parts.py", ns=(1, 1))
    assert _found(watch) == [str(own_module / "parts.py")]


def test_a_folder_that_is_renamed_away_is_found(own_module: Path) -> None:
    watch = CodeWatch()
    own_module.rename(own_module.with_name("elsewhere"))
    assert len(_found(watch)) == 2


def test_what_is_watched(own_module: Path) -> None:
    watched = CodeWatch()._known
    assert str(own_module / "parts.py") in watched
    assert code_watch.__file__ in watched
    assert not [path for path in watched if "site-packages" in path]
    assert os.__file__ not in watched
    assert all(watched.values()), "each of these files is there"


def test_a_module_that_answers_no_question_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("odd_none", None), ("odd_number", 7), ("odd_file", type(os)("odd_file"))):
        monkeypatch.setitem(sys.modules, name, value)
    sys.modules["odd_file"].__file__ = None
    assert CodeWatch()._known


def test_a_file_system_that_does_not_answer_holds_nobody_up(own_module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, answer = CodeWatch(), threading.Event()
    stamp = code_watch._stamp
    monkeypatch.setattr(code_watch, "_stamp", lambda path: answer.wait(30) and stamp(path))
    (own_module / "parts.py").write_text("A = 12\n")
    watch.look()
    threads = threading.active_count()
    watch.look()
    assert threading.active_count() == threads, "the first look still waits"
    assert watch.news(0.01) == []
    answer.set()
    assert watch.news(30.0) == [str(own_module / "parts.py")]


def test_it_is_noted_in_the_entry_of_the_attempt(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.provenance.write_text(json.dumps({"attempts": [{"attempt": 1}, {"attempt": 2}]}))
    note_changed_code(run, 3, ["a.py"])
    note_changed_code(run, 5, ["b.py"] * (MOST_FILES + 5))
    first, second = json.loads(run.provenance.read_text())["attempts"]
    assert first == {"attempt": 1}
    assert second["changed_code"][0] == {"step": 3, "count": 1, "files": ["a.py"]}
    assert (second["changed_code"][1]["count"], len(second["changed_code"][1]["files"])) == (MOST_FILES + 5, MOST_FILES)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"attempts": []}', '{"attempts": [7]}', '{"attempts": 7}'])
def test_a_damaged_provenance_ends_no_run(tmp_path: Path, content: str) -> None:
    run = RunDir(tmp_path)
    run.provenance.write_text(content)
    note_changed_code(run, 3, ["a.py"])
    assert run.provenance.read_text() == content
