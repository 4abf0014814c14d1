"""Where the code lies that a config names, found without running it."""

import hashlib
import importlib
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.run.named_code import NamedCode, came_with, digest_of, named_code
from tests.support.runs import changed

HOSTILE = "raise SystemExit('the code ran')\n"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """A run folder, and a folder of the user's code; both are on the search path."""
    run, own = tmp_path / "runs" / "theirs", tmp_path / "own"
    for folder in (run, own):
        folder.mkdir(parents=True)
        monkeypatch.syspath_prepend(folder)
    loaded = set(sys.modules)
    yield run, own
    for name in set(sys.modules) - loaded:
        del sys.modules[name]


def code(module: str) -> NamedCode:
    return NamedCode("model.name", f"{module}:build")


def written(path: Path, text: str = HOSTILE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    importlib.invalidate_caches()
    return path


@pytest.mark.parametrize("file", ["their_a.py", "their_b/__init__.py", "their_c/part.py", "deep/er/their_d.py"])
def test_code_in_or_under_a_run_folder_came_with_it_and_is_not_run(places: tuple[Path, Path], file: str) -> None:
    run, _ = places
    written(run / file)
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert came_with(run, code(module)) is not None
    assert came_with(run, code(f"{module}.below")) is not None


def test_links_do_not_hide_it(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, own = places
    (own / "their_link.py").symlink_to(written(run / "their_file.py"))
    (run / "their_other.py").symlink_to(written(own / "file.py"))
    (run.parent / "alias").symlink_to(run)
    monkeypatch.syspath_prepend(run.parent / "alias")
    for folder in (run, run.parent / "alias", Path(os.path.relpath(run))):
        for module in ("their_link", "their_other", "their_file"):
            assert came_with(folder, code(module)) is not None


def test_an_archive_on_the_search_path_may_lie_there_too(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = places
    with zipfile.ZipFile(run / "code.zip", "w") as archive:
        archive.writestr("zipped.py", HOSTILE)
    monkeypatch.syspath_prepend(run / "code.zip")
    assert came_with(run, code("zipped")) is not None


def test_a_package_that_lies_in_two_folders_came_with_the_run(places: tuple[Path, Path]) -> None:
    run, own = places
    written(own / "shared" / "mine.py")
    written(run / "shared" / "theirs.py")
    assert came_with(run, code("shared.mine")) is not None


def test_other_code_is_the_users_own(places: tuple[Path, Path]) -> None:
    run, own = places
    written(own / "mine.py")
    written(run.parent / "run-of-mine" / "beside.py")
    for module in ("mine", "json", "json.decoder", "missing", "json.missing", "__main__", "sys"):
        assert came_with(run, code(module)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_code_of_another_user_beside_the_run_came_with_it(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = places
    beside = written(run.parent / "beside.py")
    monkeypatch.syspath_prepend(run.parent)
    assert came_with(run, code("beside")) is None
    os.chown(beside, 54321, 54321)
    assert came_with(run, code("beside")) == beside


def test_the_digest_is_that_of_the_file(places: tuple[Path, Path]) -> None:
    file = written(places[1] / "mine.py")
    assert digest_of(code("mine")) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert digest_of(code("missing")) is None
    assert digest_of(code("sys")) is None


def test_every_key_that_names_code_is_known(tree: dict[str, Any]) -> None:
    named = [{"name": "a.b:C"}]
    cfg = parse_config(
        changed(
            tree,
            model__name="m:f",
            data__format="d:f",
            augment__ops=named,
            log__loggers=named,
            loss__name="l:f",
            eval__metric="e:f",
            eval__metrics=["top1", "e:g"],
        )
    )
    assert [(code.key, code.spec) for code in named_code(cfg)] == [
        ("model.name", "m:f"),
        ("data.format", "d:f"),
        ("augment.ops", "a.b:C"),
        ("loss.name", "l:f"),
        ("eval.metric", "e:f"),
        ("eval.metric", "e:g"),
        ("log.loggers", "a.b:C"),
    ]
    cfg = parse_config(changed(tree, loss__objective="o:f", model__name="hf-hub:timm/vit"))
    assert [(code.key, code.spec) for code in named_code(cfg)] == [("loss.objective", "o:f")]


def test_no_key_that_names_code_is_forgotten() -> None:
    """Who calls ``load_callable`` or ``created`` for another key must add it to ``named_code``."""
    package = Path(__file__).parents[2] / "dist_train"
    calls = re.compile(r"\b(load_callable|created)\(")
    callers = {str(path.relative_to(package)) for path in package.rglob("*.py") if calls.search(path.read_text())}
    assert callers == {
        "config/user_code.py",
        "data/augment/ops/chain.py",
        "data/formats/images.py",
        "hooks/open.py",
        "learning/objective.py",
        "loggers/open.py",
        "model/backbones.py",
    }
