"""``--print-config``: what is printed gives the same config, and says no more than it must."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.cli import main
from dist_train.config import Config, load_config, parse_config
from dist_train.config.files.printed import EXTENTS, Extent, printed, printing
from dist_train.config.values import every_key
from tests.support.runs import changed

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("[!c]*.yaml"))


@pytest.mark.parametrize("extent", EXTENTS)
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_is_printed_is_the_same_config(path: Path, extent: Extent, tmp_path: Path) -> None:
    cfg = load_config(path)
    (tmp_path / "printed.yaml").write_text(printed(cfg, extent))
    assert load_config(tmp_path / "printed.yaml") == cfg


def test_only_what_differs_is_printed(tree: dict[str, Any]) -> None:
    found = yaml.safe_load(printed(parse_config(changed(tree, augment__ops=["vflip"], optim__momentum=0.9)), "changes"))
    assert found["augment"] == {**tree.get("augment", {}), "ops": [{"name": "vflip", "p": 0.5, "options": {}}]}
    assert "momentum" not in found["optim"], "0.9 is the default"
    assert "checkpoint" not in found


def test_all_is_every_key_below_a_line_about_its_section(tree: dict[str, Any]) -> None:
    text = printed(parse_config(tree), "all")
    found = yaml.safe_load(text)
    for key in every_key(Config):
        section: Any = found
        for name in key.split("."):
            section = section[name]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert len(comments) == len(Config.model_fields)


def test_an_override_behind_the_option_is_an_override(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printing(["--print-config", "all", "a=1"]) == ["--print-config", "all", "a=1"]
    assert printing([]) == []
    assert printing(["a=1", "--print-config"]) == ["a=1", "--print-config=changes"]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
    for words in (["--print-config", "optim.lr=0.5"], ["optim.lr=0.5", "--print-config", "all"]):
        assert main(["--config", str(tmp_path / "a.yaml"), *words]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["optim"]["lr"] == 0.5
