"""A module that a finder imports while Python looks for it runs once."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from dist_train.system.imports.imported import imported_meanwhile


class _Importer(MetaPathFinder):
    """Import what is looked for, as an import of its package may do."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "counted" or name in sys.modules:
            return None
        sys.meta_path.remove(self)
        importlib.import_module(name)
        return imported_meanwhile(name)


def test_it_runs_once_and_keeps_its_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    (tmp_path / "counted.py").write_text(f"with open({str(runs)!r}, 'a') as file:\n    file.write('run ')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [_Importer(), *sys.meta_path])
    module = importlib.import_module("counted")
    monkeypatch.delitem(sys.modules, "counted")
    assert runs.read_text() == "run "
    assert module.__spec__ is not None
    assert module.__spec__.origin == module.__file__ == str(tmp_path / "counted.py")
    assert module.__spec__.loader is module.__loader__
