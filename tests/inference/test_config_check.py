"""``--check`` finds errors before GPU time is spent, and writes nothing."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dist_train.config import parse_config
from dist_train.errors import ConfigError, DataError
from dist_train.inference.config_check import check, check_and_print
from tests.support.runs import changed, folder


class Wide(nn.Module):
    """A model that does not do what it is asked for."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat((self.head(images.mean((2, 3))), images.new_zeros(len(images), 2)), dim=1)


def test_check_prints_the_plan_and_writes_nothing(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert check_and_print(parse_config(changed(tree, run__deterministic=False)), world_size=2) == 0
    told = capsys.readouterr().out
    assert "60 training and 23 validation images of 3 classes" in told
    assert "global batch 12 = micro-batch 6 x 2 rank(s) x 1 accumulated" in told
    assert "GB free at" in told
    assert not folder(tree).exists()


@pytest.mark.parametrize(
    ("override", "world_size", "error", "words"),
    [
        ({"data__root": "/nowhere"}, 1, DataError, r"`data\.root` \(/nowhere\) is not a directory"),
        ({"log__mlflow": {"uri": "htp://x"}}, 1, ConfigError, r"`log\.mlflow\.uri` \(htp://x\) has a form"),
        ({"model__name": "test_vitt"}, 1, ConfigError, r"`model\.name` \(test_vitt\)"),
        ({"model__weights": "/nowhere.pth"}, 1, ConfigError, r"/nowhere\.pth does not exist"),
        (
            {"run__output_dir": "x" * 300},
            1,
            ConfigError,
            r"`run\.output_dir` \(x*\): .* File name too long; choose another",
        ),
        ({}, 5, ConfigError, r"`train\.global_batch` \(12\) must be a multiple of the world size \(5\); use 10 or 15"),
        ({"train__global_batch": 64}, 1, DataError, "lower it to at most 60"),
        ({"run__resume": "must"}, 1, ConfigError, r"`run\.resume` \(must\)"),
        (
            {"data__image_size": 33},
            1,
            ConfigError,
            r"`data\.image_size` \(33\): test_vit cannot process images of 33 x 33",
        ),
        (
            {"eval__size": [64, 32], "model__options": {"dynamic_img_size": False}},
            1,
            ConfigError,
            r"`eval\.size` \(\[64, 32\]\): test_vit cannot process images of 64 x 32 px.*set eval.size=train",
        ),
        (
            {"model__name": "tests.inference.test_config_check:Wide"},
            1,
            ConfigError,
            r"returns a tensor of shape \[1, 5\].* needs \[1, 3\]",
        ),
        ({"loss__class_weights": {"dog": 2.0}}, 1, ConfigError, r"`loss\.class_weights` \(dog\) is not a class"),
        ({"model__freeze": ["stem"]}, 1, ConfigError, r"`model.freeze` \(stem\) matches nothing"),
        ({"optim__name": "adamww"}, 1, ConfigError, r"`optim.name` \(adamww\) is unknown"),
        (
            {"model__pretrained": True, "model__weights": "none.pth"},
            1,
            ConfigError,
            "none.pth does not exist; check `model.weights`",
        ),
        (
            {"checkpoint__keep_best": {"top1": 10**9}},
            1,
            ConfigError,
            r"lower `checkpoint\.keep` and `checkpoint\.keep_best`",
        ),
        ({"run__output_dir": __file__}, 1, ConfigError, r"`run\.output_dir`: .*test_config_check\.py is not a folder"),
    ],
)
def test_check_finds_what_is_wrong(
    tree: dict[str, Any], override: dict[str, Any], world_size: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        check(parse_config(changed(tree, run__deterministic=False, **override)), world_size)


def test_a_broken_image_ends_the_run_and_so_the_check(
    tree: dict[str, Any], image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(image_folder, tmp_path / "images")
    tree["data"]["root"] = str(root)
    path = sorted((root / "train").rglob("*.png"))[1]
    path.write_bytes(b"")
    assert check_and_print(parse_config(tree), world_size=1) == 2
    said = capsys.readouterr()
    assert f"broken: 1, such as {path.relative_to(root)} (the file is empty)" in said.out.replace("\n  ", " ")
    assert (
        f"`data.bad_images` (error) ends the run at the first broken image, and 1 of those looked at are: cannot read the image {path}"
        in said.err
    )
    assert check_and_print(parse_config(changed(tree, data__bad_images="skip")), world_size=1) == 0
