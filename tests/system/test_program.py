"""The name by which the user called the program."""

import sys

import pytest

from dist_train.system.program import program


@pytest.mark.parametrize(
    ("argv0", "expected"),
    [
        ("/usr/bin/dist-train", "dist-train evaluate"),
        ("/site-packages/dist_train/__main__.py", "python -m dist_train evaluate"),
        ("/site-packages/dist_train/evaluate.py", "python -m dist_train evaluate"),
    ],
)
def test_by_its_script_or_as_a_module(monkeypatch: pytest.MonkeyPatch, argv0: str, expected: str) -> None:
    monkeypatch.setattr(sys, "argv", [argv0])
    assert program("evaluate") == expected
    assert program() == expected.removesuffix(" evaluate")
