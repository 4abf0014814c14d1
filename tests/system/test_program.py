"""The name by which the user called the program."""

import sys

import pytest

from dist_train.system.program import Parser, program


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


@pytest.mark.parametrize(
    ("settings", "words", "hint"),
    [
        ("overrides", "--optim.lr=1", "; write optim.lr=1"),
        ("overrides", "--optim.lr 1", "; write optim.lr=VALUE"),
        ("--set", "--optim.lr=1", "; write --set optim.lr=1"),
        ("overrides", "--batchsize=8", "; did you mean --batch-size?"),
        ("overrides", "--epochs=8", "; write a setting of the config as key.path=value, such as optim.lr=1e-4"),
        ("--set", "--epochs=8", "--epochs=8"),
    ],
)
def test_an_unknown_option_is_answered_with_what_it_may_mean(
    settings: str, words: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = Parser()
    parser.add_argument("--batch-size")
    parser.add_argument(settings, nargs="*")
    with pytest.raises(SystemExit):
        parser.parse_intermixed_args(words.split())
    assert capsys.readouterr().err.endswith(f"{hint}\n")
