"""The model card says what was trained on what, and no path of this machine."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dist_train.config import parse_config
from dist_train.data.changed_files import Counts
from dist_train.inference.handover.model_card import model_card
from dist_train.inference.open_run import OpenedRun
from dist_train.model.network import Network
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, write_result
from dist_train.system.files import write_json
from tests.support.runs import changed

CLASSES = ["a|b", "*star*"]


@pytest.fixture
def run(tree: dict[str, Any], tmp_path: Path) -> OpenedRun:
    cfg = parse_config(
        changed(
            tree,
            model__weights=str(tmp_path / "start.safetensors"),
            data__task="multilabel",
            data__format="csv",
            eval__metric="map",
            loss={"name": "bce"},
            eval__tta={},
        )
    )
    folder = RunDir(tmp_path)
    write_result(folder, Result("done", best={"step": 7, "map": 81.26, "loss": 0.5, "r2": None}))
    network = Network(nn.Identity(), frozenset(), (), (32, 48), (0.5,) * 3, (0.5,) * 3)
    return OpenedRun(folder, cfg, CLASSES, network, torch.device("cpu"), tmp_path / "best.safetensors")


def test_data_scores_settings_and_limits(run: OpenedRun) -> None:
    counts = {"train": Counts(50, Counter({"a|b": 45, "*star*": 3})), "val": Counts(1200, Counter({"a|b": 9}))}
    text = model_card(run, "best", counts)
    assert text.startswith("---\nlibrary_name: timm\npipeline_tag: image-classification\n")
    for line in (
        "test_vit, fine-tuned as a classifier of images with any number of labels for 2 classes, at 32 x 48 px",
        "| class | training images | validation images |",
        "| a\\|b | 45 | 9 |",
        "| \\*star\\* | 3 | 0 |",
        "Measured on the validation set of 1,200 images, at step 7.",
        "| map | 81.26 % |",
        "| loss | 0.5 |",
        "| r2 | undefined |",
        "  weights: start.safetensors",
        "- Fewer than 20 training images: \\*star\\*.",
        "- Probabilities are not calibrated",
        "this model takes one view",
    ):
        assert line in text, line
    assert str(run.folder.path) not in text
    assert "output_dir" not in text


def test_what_is_missing_is_said(run: OpenedRun) -> None:
    write_json(run.folder.result, {})
    text = model_card(run, "last", {})
    assert "None: the run folder has no scores of these weights." in text
    assert "| class |\n| --- |\n| a\\|b |" in text
    assert "Fewer than" not in text
