"""The example configs that every installation contains."""

from pathlib import Path

import pytest

from dist_train.config import load_config
from dist_train.config.examples import EXAMPLES, example, listing
from dist_train.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_every_config_is_an_example() -> None:
    assert set(EXAMPLES) == {path.stem for path in CONFIGS.glob("*.yaml")}
    assert [line.split()[0] for line in listing().splitlines()] == list(EXAMPLES)
    assert max(map(len, listing().splitlines())) <= 100


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"cluster"}))
def test_an_example_is_a_config_and_its_command_needs_no_clone(name: str, tmp_path: Path) -> None:
    text = example(name)
    assert "--config configs/" not in text
    (tmp_path / "c.yaml").write_text(text)
    assert load_config(tmp_path / "c.yaml") == load_config(CONFIGS / f"{name}.yaml")


def test_an_unknown_example() -> None:
    with pytest.raises(
        ConfigError, match=r"--example vit_head: no example has this name; did you mean vit_head_only\?"
    ):
        example("vit_head")
    with pytest.raises(ConfigError, match="use one of: flowers, "):
        example("zzz")
