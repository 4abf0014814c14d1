"""The config in a run folder."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.config import dump_config, parse_config
from dist_train.errors import ConfigError
from dist_train.run.saved_config import run_config


def test_it_is_read_with_overrides(tree: dict[str, Any], tmp_path: Path) -> None:
    cfg = parse_config(tree)
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    assert run_config(tmp_path) == cfg
    assert run_config(tmp_path, ["optim.lr=0.5"]).optim.lr == 0.5


def test_faults_of_the_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a run folder: it has no config.yaml"):
        run_config(tmp_path)
    (tmp_path / "config.yaml").write_text("model: [")
    with pytest.raises(ConfigError, match="this version cannot read"):
        run_config(tmp_path)
