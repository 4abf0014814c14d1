"""A config is read strictly, and every error names the key, the value, the rule and the fix."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.config import dump_config, load_config, parse_config
from dist_train.config.resume_keys import arithmetic
from dist_train.config.types import seconds_of
from dist_train.errors import ConfigError
from tests.support.runs import changed


def test_a_config_survives_being_written_and_read(tree: dict[str, Any], tmp_path: Path) -> None:
    cfg = parse_config(changed(tree, augment__randaugment={}, train__early_stopping={"patience": 3}))
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    assert load_config(tmp_path / "config.yaml") == cfg


@pytest.mark.parametrize("text", ["1e5", "1e-3", "on", "null", "007", "1:30:00", "2026-11-22", "=", "<<", ".inf", "é"])
def test_a_string_stays_a_string(tree: dict[str, Any], tmp_path: Path, text: str) -> None:
    cfg = parse_config(changed(tree, log__wandb__group=text, loss__class_weights={text: 2.0}))
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    assert load_config(tmp_path / "config.yaml") == cfg


def test_dates_times_and_merged_keys_are_what_a_person_reads(tree: dict[str, Any], tmp_path: Path) -> None:
    sections = {key: value for key, value in tree.items() if key not in ("run", "augment")}
    text = "run: &run {name: 2026-11-22, seed: 7}\naugment: {randaugment: {<<: &ra {num_ops: 3}, magnitude: 4}}\n"
    (tmp_path / "a.yaml").write_text(text + yaml.safe_dump(sections))
    cfg = load_config(tmp_path / "a.yaml", ["train.time_limit=1:30:00"])
    assert (cfg.run.name, cfg.train.time_limit) == ("2026-11-22", "1:30:00")
    assert cfg.augment.randaugment is not None
    assert (cfg.augment.randaugment.num_ops, cfg.augment.randaugment.magnitude) == (3, 4)


def test_a_path_means_what_a_shell_makes_of_it(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    cfg = parse_config(changed(tree, data__root="~/images", run__output_dir="$SCRATCH/runs", data__cache="a/$b"))
    assert (cfg.data.root, cfg.run.output_dir, cfg.data.cache) == ("/home/me/images", "/scratch/me/runs", "a/$b")


def test_overrides_replace_values_of_the_file(tree: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
    cfg = load_config(
        tmp_path / "a.yaml", ["optim.lr=3e-4", "optim.betas=[0.8, 0.9]", "run.resume=must", "log.tensorboard=true"]
    )
    assert (cfg.optim.lr, cfg.optim.betas, cfg.run.resume, cfg.log.tensorboard) == (3e-4, (0.8, 0.9), "must", True)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"optim__lerning_rate": 1}, "`optim.lerning_rate` is not a key"),
        ({"train__precison": "fp32"}, "`train.precison` is not a key: did you mean `train.precision`?"),
        ({"trian": {}}, "`trian` is not a key: did you mean `train`?"),
        ({"train__precision": "bf16"}, "`train.precision` ('bf16') must be one of fp32, amp_bf16, amp_fp16"),
        ({"run__resume": "atuo"}, "did you mean auto?"),
        ({"train__epochs": 0}, "`train.epochs` (0) must be greater than 0; the default is 10"),
        ({"train__epochs": "ten"}, "`train.epochs` ('ten') must be a valid integer"),
        ({"train__epochs": 2.5}, "`train.epochs` (2.5) must be a valid integer"),
        ({"optim__lr": -1.0}, "`optim.lr` (-1.0) must be greater than 0"),
        ({"train__time_limit": "1:2:3:4"}, "write [days-]hours:minutes:seconds"),
        ({"train__time_limit": "0:00:00"}, "is no time at all"),
        ({"run__name": "a/b"}, "`run.name` ('a/b') must begin with a letter or digit"),
        ({"run__name": "a" * 201}, "must have at most 200 characters"),
        ({"run__name": 2024}, "`run.name` (2024) must be a valid string; write it in quotes"),
        ({"model__head__name": "lineer"}, "did you mean linear?"),
        ({"train__precision": "bf16"}, "did you mean amp_bf16?"),
        ({"eval__metric": "accuracy"}, "did you mean top1?"),
        ({"train__batch_size": 8}, "`train.batch_size` is not a key: did you mean `train.global_batch`?"),
        ({"train__lr": 8}, "`train.lr` is not a key: did you mean `optim.lr`?"),
        ({"augment": None}, "`augment` (None) must be a section with some of the keys device, crop"),
        (
            {"augment__randaugment": True},
            "`augment.randaugment` (True) must be a section with some of the keys num_ops",
        ),
        ({"augment__crop_scale": [0.5]}, "`augment.crop_scale` ([0.5]) has too few values; the default is [0.08, 1.0]"),
        ({"augment__crop_scale": [0.5, 2.0]}, "`augment.crop_scale.1` (2.0) must be less than or equal to 1"),
        (
            {"model__head__hidden": 256},
            "`model.head.hidden` (256) must be a list, in square brackets; the default is [512]",
        ),
        ({"model__freeze": [1]}, "`model.freeze`: (1,) must be none, backbone, or a list of patterns"),
        ({"data__mean": [127.0, 0.5, 0.5]}, "`data.mean.0` (127.0) must be less than or equal to 1"),
        ({"log__tensorboard": "no"}, "`log.tensorboard` ('no') must be true or false"),
        ({"optim__lr": "1e-3"}, "`optim.lr` ('1e-3') must be a valid number; write it without quotes"),
        ({"optim__lr": math.inf}, "`optim.lr` (inf) must be a finite number"),
        ({"loss__class_weights": {0: 10.0}}, "`loss.class_weights.0` (0) must be a valid string; write it in quotes"),
        ({1: 2}, "`1` is not a key: the file has run, model"),
        ({"schedule__min_lr": 1.0}, "`schedule.min_lr` (1) is more than `optim.lr` (0.05)"),
        ({"schedule__warmup_epochs": 3.0}, "`schedule.warmup_epochs` (3) is more than `train.epochs` (2)"),
    ],
)
def test_a_wrong_key_or_value_is_explained(tree: dict[str, Any], override: dict[Any, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({**tree, **override} if 1 in override else changed(tree, **override))
    assert words in str(error.value)


def test_all_errors_are_told_at_once(tree: dict[str, Any]) -> None:
    del tree["optim"]["lr"]
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, train__epochs=-1, dta={}))
    assert str(error.value).count("\n") == 2
    assert "`optim.lr` is missing: set it in the file, or give optim.lr=..." in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run: [unclosed", "is not valid YAML"),
        ("- a\n- b", "must hold sections"),
        ("# all commented out\n", "is empty"),
        ("run:\n\tname: a", "at line 2, column 1.*indent with spaces"),
        ("run: {name: *.bias}", r"put quotes around text that begins with \*"),
        ("run: {[a]: b}", "unhashable key"),
        ("run: &a {name: *a}", "holds itself"),
        ("[" * 3000, "nested too deeply"),
        ("run: !!timestamp x", "is not valid YAML"),
        ("run: {name: a}\nrun: {name: b}", "key 'run' appears twice"),
        ("run: !!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_config(tmp_path / "a.yaml")


def test_a_missing_file_and_a_bad_override_are_told(tree: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the config file .*nothing\.yaml"):
        load_config(tmp_path / "nothing.yaml")
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=r"'optim\.lr' is no override: write key\.path=value"):
        load_config(tmp_path / "a.yaml", ["optim.lr"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("5:10", 310), ("1:2:3", 3723), ("1-0", 86400), ("1-00:00:30", 86430), ("2-3:4", 183840)],
)
def test_walltimes_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("1.5E3", 1500.0), (".5", 0.5), ("3", 3), ("on", "on")])
def test_yaml_values_mean_what_a_person_reads(tmp_path: Path, tree: dict[str, Any], text: str, value: Any) -> None:
    tree["optim"]["lr"] = 0.1
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
    if isinstance(value, str):
        with pytest.raises(ConfigError, match="'on'"):
            load_config(tmp_path / "a.yaml", [f"optim.lr={text}"])
    else:
        assert load_config(tmp_path / "a.yaml", [f"optim.lr={text}"]).optim.lr == value


def test_arithmetic_leaves_out_what_may_change_on_a_resume(tree: dict[str, Any]) -> None:
    base = arithmetic(parse_config(tree))
    for same in ({"data__workers": 3}, {"train__epochs": 9}, {"log__every_steps": 7}, {"distributed__timeout_s": 9}):
        assert arithmetic(parse_config(changed(tree, **same))) == base
    for other in (
        {"optim__lr": 0.1},
        {"run__seed": 1},
        {"augment__hflip": 0.0},
        {"model__name": "x"},
        {"train__global_batch": 6},
    ):
        assert arithmetic(parse_config(changed(tree, **other))) != base


def test_label_smoothing_of_several_labels_is_refused(tree: dict[str, Any]) -> None:
    several = {"data__format": "csv", "data__task": "multilabel", "loss__name": "bce", "eval__metric": "map"}
    with pytest.raises(ConfigError, match=r"`loss.label_smoothing` \(0.1\) is for one class an image"):
        parse_config(changed(tree, **several, loss__label_smoothing=0.1))


@pytest.mark.parametrize(
    ("then", "now", "key"),
    [
        ({}, {"augment__randaugment": {}}, "augment.randaugment"),
        ({"augment__randaugment": {}}, {}, "augment.randaugment"),
        ({}, {"loss__class_weights": {"a": 2.0}}, "loss.class_weights"),
        ({"loss__class_weights": {"a": 2.0}}, {"loss__class_weights": {"b": 2.0}}, "loss.class_weights"),
        ({"loss__name": "m:L"}, {"loss__name": "m:L", "loss__options": {"x": 1}}, "loss.options"),
    ],
)
def test_what_comes_or_goes_as_a_whole_is_arithmetic_too(
    tree: dict[str, Any], then: dict[str, Any], now: dict[str, Any], key: str
) -> None:
    before, after = arithmetic(parse_config(changed(tree, **then))), arithmetic(parse_config(changed(tree, **now)))
    assert before.keys() == after.keys(), "a resume compares the keys that both have"
    assert [name for name in before if before[name] != after[name]] == [key]
