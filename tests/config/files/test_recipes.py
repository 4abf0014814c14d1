"""The recipes that every installation contains."""

from pathlib import Path

import pytest

from dist_train.config import load_config
from dist_train.config.files import recipes
from dist_train.errors import ConfigError


def test_every_recipe_is_listed_with_its_purpose() -> None:
    lines = recipes.listing().splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    assert all(len(line.split()) > 2 for line in lines), "its first line says what it is for"
    assert max(map(len, lines)) <= 140


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_needs_a_run_and_data_only(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"base: recipes/{name}\nrun: {{name: mine}}\ndata: {{root: photos}}\n")
    assert load_config(tmp_path / "mine.yaml").run.name == "mine"


def test_the_vit_is_that_of_the_example(tmp_path: Path) -> None:
    own = "{base: recipes/vit, run: {name: vit}, data: {format: tiny_imagenet, root: data/tiny-imagenet-200, workers: 8}, log: {every_steps: 100}}"
    (tmp_path / "mine.yaml").write_text(own)
    example = load_config(Path(__file__).parents[3] / "configs" / "vit.yaml")
    assert load_config(tmp_path / "mine.yaml") == example


def test_an_unknown_recipe() -> None:
    with pytest.raises(ConfigError, match=r"--recipes vti: no recipe has this name; did you mean vit\?"):
        recipes.recipe("vti")
    with pytest.raises(ConfigError, match=r"use one of: .*vit"):
        recipes.recipe("zzz")
