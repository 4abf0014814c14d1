"""YAML text has the documented meaning, and is read back after it was written."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.config import dump_config, load_config, parse_config
from dist_train.config.yaml_text import TooLarge, apply_override, load_yaml, parse_yaml
from dist_train.errors import ConfigError
from tests.support.hostile_runs import BOMB, MERGES
from tests.support.runs import changed


@pytest.mark.parametrize("text", ["1e5", "1e-3", "on", "null", "007", "1:30:00", "2026-11-22", "=", "<<", ".inf", "é"])
def test_a_string_stays_a_string(tree: dict[str, Any], tmp_path: Path, text: str) -> None:
    cfg = parse_config(changed(tree, log__wandb__group=text, loss__class_weights={text: 2.0}))
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    assert load_config(tmp_path / "config.yaml") == cfg


def test_dates_times_and_merged_keys_are_what_a_person_reads(tree: dict[str, Any], tmp_path: Path) -> None:
    sections = {key: value for key, value in tree.items() if key not in ("run", "augment")}
    text = "run: &run {name: 2026-11-22, seed: 7}\naugment: {ops: [{name: randaugment, options: {<<: &ra {num_ops: 3}, magnitude: 4}}]}\n"
    (tmp_path / "a.yaml").write_text(text + yaml.safe_dump(sections))
    cfg = load_config(tmp_path / "a.yaml", ["train.time_limit=1:30:00"])
    assert (cfg.run.name, cfg.train.time_limit) == ("2026-11-22", "1:30:00")
    assert (cfg.augment.ops[0].options["num_ops"], cfg.augment.ops[0].options["magnitude"]) == (3, 4)


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("1.5E3", 1500.0), (".5", 0.5), ("3", 3), ("on", "on")])
def test_yaml_values_mean_what_a_person_reads(tmp_path: Path, tree: dict[str, Any], text: str, value: Any) -> None:
    tree["optim"]["lr"] = 0.1
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
    if isinstance(value, str):
        with pytest.raises(ConfigError, match="'on'"):
            load_config(tmp_path / "a.yaml", [f"optim.lr={text}"])
    else:
        assert load_config(tmp_path / "a.yaml", [f"optim.lr={text}"]).optim.lr == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1e3),
        ("0.1", 0.1),
        ("on", "on"),
        ("yes", "yes"),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("~", None),
        ("True", True),
    ],
)
def test_what_editors_read_by_yaml_1_2_is_read_here(text: str, value: Any) -> None:
    found = parse_yaml(f"key: {text}", "here")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("text", "here"), [("007", "007"), ("0x1F", "0x1F"), ("1_000", 1000), ("TRUE", "TRUE")])
def test_what_editors_read_otherwise(text: str, here: Any) -> None:
    """docs/config.md lists these."""
    assert parse_yaml(f"key: {text}", "here")["key"] == here


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader), yaml.BaseLoader])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 100,000 values, with each alias"),
        (MERGES, "more than 100,000 values, with each alias"),
        ("[" * 100_000, "nested too deeply"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: [1, {c: *a}]}", "contains itself"),
        (f"a: {'x' * (1 << 20)}", "more than 1 MiB"),
        ("[" + "1," * 100_001 + "]", "more than 100,000 values"),
    ],
)
def test_a_small_text_cannot_become_large(loader: Any, text: str, reason: str) -> None:
    with pytest.raises(TooLarge, match=reason):
        load_yaml(text, loader)
    with pytest.raises(ConfigError, match=reason):
        parse_yaml(text, "the config")


def test_aliases_and_merges_of_a_usual_size_are_read() -> None:
    text = "a: &a {x: 1, y: [1, 2]}\nb: *a\nc: {<<: *a, x: 3}\n"
    assert load_yaml(text, yaml.SafeLoader)["c"] == {"x": 3, "y": [1, 2]}


def test_a_nul_character_is_refused_with_its_place() -> None:
    with pytest.raises(
        ConfigError, match=r"a.yaml is not valid YAML at line 2, column 8: 'x.x00y' has a NUL character"
    ):
        parse_yaml('data:\n root: "x\\0y"\n', "a.yaml")


@pytest.mark.parametrize("override", ["model.weights=", "model.weights= "])
def test_an_empty_shell_variable_is_not_the_value_none(override: str) -> None:
    tree: dict[str, Any] = {}
    with pytest.raises(ConfigError, match=r"has no value \(an empty shell variable\?\); write model.weights=null if"):
        apply_override(tree, override)
    apply_override(tree, "model.weights=null")
    assert tree == {"model": {"weights": None}}
