"""A config is read from a file and from overrides, and written back."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.config import dump_config, load_config, parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


def test_a_config_survives_being_written_and_read(tree: dict[str, Any], tmp_path: Path) -> None:
    cfg = parse_config(
        changed(
            tree, augment__ops=["rand-m9", {"name": "rotation", "degrees": 9}], train__early_stopping={"patience": 3}
        )
    )
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    assert load_config(tmp_path / "config.yaml") == cfg


def test_overrides_replace_values_of_the_file(tree: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
    cfg = load_config(
        tmp_path / "a.yaml", ["optim.lr=3e-4", "optim.betas=[0.8, 0.9]", "run.resume=must", "log.tensorboard=true"]
    )
    assert (cfg.optim.lr, cfg.optim.betas, cfg.run.resume, cfg.log.tensorboard) == (3e-4, (0.8, 0.9), "must", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run: [unclosed", "is not valid YAML"),
        ("- a\n- b", "must hold sections"),
        ("# all commented out\n", "is empty"),
        ("run:\n\tname: a", "at line 2, column 1.*indent with spaces"),
        ("run: {name: *.bias}", r"put quotes around text that starts with \*"),
        ("run: {[a]: b}", "unhashable key"),
        ("run: &a {name: *a}", "contains itself"),
        ("[" * 3000, "nested too deeply"),
        ("run: !!timestamp x", "is not valid YAML"),
        ("run: {name: a}\nrun: {name: b}", "key 'run' appears twice"),
        ("run: !!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_file_that_is_not_a_config_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_config(tmp_path / "a.yaml")


def test_a_missing_file_and_a_bad_override_are_reported(tree: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the config file .*nothing\.yaml"):
        load_config(tmp_path / "nothing.yaml")
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=r"'optim\.lr' is not an override: write key\.path=value"):
        load_config(tmp_path / "a.yaml", ["optim.lr"])


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(ConfigError, match=r"the path of the config file is empty \(an empty shell variable\?\)"):
        load_config("")


def test_the_folder_of_a_run_is_not_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=rf"Is a directory; the config of this run is {tmp_path}/config.yaml"):
        load_config(tmp_path)
