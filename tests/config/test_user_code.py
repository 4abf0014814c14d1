"""``package.module:name`` is imported, or refused with an explanation."""

import sys
from pathlib import Path

import pytest

from dist_train.config.user_code import load_callable
from dist_train.errors import ConfigError


def test_a_function_and_a_class() -> None:
    assert load_callable("math:floor", "loss.name")(2.5) == 2
    assert load_callable("fractions:Fraction", "loss.name")(1, 2) == 0.5


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("math", r"`loss.name` \(math\) must be package.module:name, such as my_code.parts:loss"),
        ("nowhere.at_all:Loss", "there is no module nowhere; start from its folder, or add its folder to PYTHONPATH"),
        ("math:nothing", r"`loss.name` \(math:nothing\): math has no nothing"),
        ("math:pi", "must be a function or a class, not float"),
    ],
)
def test_what_cannot_be_loaded_is_explained(spec: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_callable(spec, "loss.name")


def test_an_import_that_fails_inside_keeps_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_mine_14.py").write_text("import a_package_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_missing"):
        load_callable("of_mine_14:f", "loss.name")
    assert "of_mine_14" not in sys.modules


def test_a_model_of_a_library_is_not_your_own() -> None:
    with pytest.raises(
        ConfigError, match=r"has no resnet5; for its model of this name: model.source=timm model.name=resnet5"
    ):
        load_callable("timm:resnet5", "model.name")
