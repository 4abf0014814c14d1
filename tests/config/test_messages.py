"""Every error names the key, the value, the rule and the fix."""

import math
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"optim__lerning_rate": 1}, "`optim.lerning_rate` is not a key"),
        ({"train__precison": "fp32"}, "`train.precison` is not a key: did you mean `train.precision`?"),
        ({"trian": {}}, "`trian` is not a key: did you mean `train`?"),
        ({"train__precision": "bf16"}, "`train.precision` ('bf16') must be one of fp32, amp_bf16, amp_fp16"),
        (
            {"loss__name": "crossentropy"},
            "`loss.name` ('crossentropy') must be one of cross_entropy, focal, bce, binary_focal, asymmetric, soft_f1, mse, l1, huber, or "
            "package.module:Class; did you mean cross_entropy?",
        ),
        ({"schedule__name": "cosin"}, "or package.module:function; did you mean cosine?"),
        ({"data__format": "ImageFolder"}, "or package.module:callable; did you mean imagefolder?"),
        ({"run__resume": "atuo"}, "did you mean auto?"),
        ({"train__epochs": 0}, "`train.epochs` (0) must be greater than 0; the default is 10"),
        ({"train__epochs": "ten"}, "`train.epochs` ('ten') must be a valid integer"),
        ({"train__epochs": 2.5}, "`train.epochs` (2.5) must be a valid integer"),
        ({"optim__lr": -1.0}, "`optim.lr` (-1.0) must be greater than 0"),
        ({"train__time_limit": "1:2:3:4"}, "write [days-]hours:minutes:seconds"),
        ({"train__time_limit": "0:00:00"}, "must be more than 0 seconds"),
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
            {"train__early_stopping": True},
            "`train.early_stopping` (True) must be a section with some of the keys patience",
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
        ({"optim__LR": 1}, "`optim.LR` is not a key: did you mean `optim.lr`?"),
        ({"data__format": "CSV"}, "did you mean csv?"),
        (
            {"log__loggers": ["wandb"]},
            "`log.loggers.0` ('wandb') must be a section with some of the keys name, options;",
        ),
        ({"optim": "lr:0.1"}, "`optim`: write a space after the colon: lr: 0.1"),
        (
            {"train__early_stopping": {"patience:3": None}},
            "`train.early_stopping.patience:3`: write a space after the colon: patience: 3",
        ),
        ({1: 2}, "`1` is not a key: the keys of the file are run, model"),
    ],
)
def test_a_wrong_key_or_value_is_explained(tree: dict[str, Any], override: dict[Any, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({**tree, **override} if 1 in override else changed(tree, **override))
    assert words in str(error.value)


def test_all_errors_are_reported_at_once(tree: dict[str, Any]) -> None:
    del tree["optim"]["lr"]
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, train__epochs=-1, dta={}))
    assert str(error.value).count("\n") == 2
    assert "`optim.lr` is missing: set it in the file, or give optim.lr=..." in str(error.value)


@pytest.mark.parametrize("key", ["train.micro_batch", "train.fast_dev_run"])
def test_a_key_of_several_kinds_of_values_keeps_its_name(tree: dict[str, Any], key: str) -> None:
    """Pydantic adds the kind to the key: `train.micro_batch.constrained-int`."""
    section, name = key.split(".")
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(tree, **{f"{section}__{name}": 0}))
    assert all(line.startswith(f"`{key}` (0) must be ") for line in str(caught.value).splitlines())
