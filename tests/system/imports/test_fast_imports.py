"""Quick imports restore everything that they change."""

import gc
import importlib
import importlib.util
import sys

import pytest

from dist_train.system.imports.fast_imports import quick_imports


def test_within_the_block_there_is_no_wandb_and_afterwards_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with quick_imports():
        assert not gc.isenabled()
        with pytest.raises(ImportError):
            importlib.import_module("wandb")
    assert gc.isenabled()
    assert "wandb" not in sys.modules
    assert importlib.util.find_spec("wandb") is not None
    gc.unfreeze()


def test_an_import_error_is_no_reason_to_stay_without_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(ImportError), quick_imports():
        importlib.import_module("dist_train.no_such_module")
    assert gc.isenabled()
    assert "wandb" not in sys.modules
    gc.unfreeze()
