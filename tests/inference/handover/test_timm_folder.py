"""``export --format timm``: timm and transformers load the folder in a process of their own, and say what ``predict`` says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dist_train import load_run
from dist_train.checkpoint.digests import ALGORITHM, digest_of
from dist_train.config import parse_config
from dist_train.data.augment.frame import Frame, scaled_size
from dist_train.errors import ConfigError
from dist_train.evaluation.calibration import Calibration
from dist_train.export import main
from dist_train.inference.handover.timm_folder import crop_pct, refuse_what_timm_cannot
from dist_train.system.files import read_json
from tests.support.commands import call
from tests.support.runs import changed, train

ROUNDING = 0.01
"""Of a probability: Pillow and tensors are resized with another rounding; on these images it is about 1e-4."""

TIMM = """
import json, sys, timm, torch
from PIL import Image
folder, files = sys.argv[1], sys.argv[2:]
model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
names = model.pretrained_cfg["label_names"]
for file in files:
    with torch.no_grad():
        outputs = model(transform(Image.open(file).convert("RGB"))[None])[0]
    print(json.dumps(dict(zip(names, outputs.softmax(0).tolist()))))
"""

TRANSFORMERS = """
import json, sys
from transformers import AutoModelForImageClassification, pipeline
folder, files = sys.argv[1], sys.argv[2:]
assert AutoModelForImageClassification.from_pretrained(folder).config.num_labels == 3
classify = pipeline("image-classification", model=folder)
for found in classify(files):
    print(json.dumps({each["label"]: each["score"] for each in found}))
"""


def of_another_process(code: str, folder: Path, files: list[Path]) -> list[dict[str, float]]:
    """Probabilities of each file by class."""
    where = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, str(folder), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, env=where, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def same_as_predict(code: str, run: Path, folder: Path, data: Path) -> None:
    files = sorted((data / "val").rglob("*.*"))[::4]
    expected = load_run(run, device="cpu").predict(files)
    for found, wanted in zip(of_another_process(code, folder, files), expected, strict=True):
        assert found.keys() == wanted.scores.keys()
        assert found == pytest.approx(wanted.scores, abs=ROUNDING), wanted.image


def test_timm_loads_the_folder(tree: dict[str, Any], image_folder: Path) -> None:
    """With a temperature, a published crop and an input of another size than the model's own."""
    run = train(tree, train__epochs=1, augment={"crop": "random_resized"})
    weights = digest_of(run / "best.safetensors", ALGORITHM)
    Calibration(temperature=1.7, thresholds=(), tta=None, weights=weights).write(run / "calibration.json")
    code, out, err = call(main, run, "--format", "timm")
    assert (code, err) == (0, "")
    assert "model.safetensors: " in out
    folder = run / "export" / "timm"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    same_as_predict(TIMM, run, folder, image_folder)
    card = (folder / "README.md").read_text()
    assert "| class\\_b | 20 | 8 |" in card
    assert "validation set of 23 images, at step 5" in card
    assert "the head's weights are divided by the temperature 1.700" in card
    for written in folder.iterdir():
        assert str(run).encode() not in written.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ({"name": "test_vit"}, {"eval": {"interpolation": "bilinear", "crop": "squash"}}),
        ({"name": "test_efficientnet", "head": {"dropout": 0.2}}, {"augment": {"crop": "pad"}}),
        ({"name": "test_vit", "lora": {"rank": 2}}, {"data__mean": [0.4, 0.5, 0.6], "data__std": [0.2, 0.3, 0.3]}),
        ({"name": "test_efficientnet", "options": {"global_pool": "max"}}, {"data__image_size": [32, 48]}),
    ],
    ids=["squash", "pad", "lora", "oblong"],
)
def test_timm_and_transformers_load_the_folder(
    tree: dict[str, Any], image_folder: Path, tmp_path: Path, model: dict[str, Any], more: dict[str, Any]
) -> None:
    pytest.importorskip("transformers")
    run = train(changed(tree, model={"pretrained": False, **model}, train__epochs=1, **more))
    code, out, _ = call(main, run, "--format", "timm", "--out", tmp_path / "out")
    assert code == 0, out
    same_as_predict(TIMM, run, tmp_path / "out", image_folder)
    same_as_predict(TRANSFORMERS, run, tmp_path / "out", image_folder)
    again = train(
        changed(tree, model={"name": f"local-dir:{tmp_path / 'out'}"}, run__name="again", train__epochs=1, **more)
    )
    assert call(main, again, "--format", "timm")[0] == 0
    first, second = (read_json(folder / "config.json") for folder in (tmp_path / "out", again / "export" / "timm"))
    assert first == second


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("model__source", "torchvision", r"`model.source` \(torchvision\): timm builds its own models only"),
        (
            "model__name",
            "tests.support.ranks:run_ranks",
            r"`model.name` \(tests.support.ranks:run_ranks\): it is your own code",
        ),
        ("model__head", {"name": "mlp"}, r"`model.head.name` \(mlp\): timm's models end with one linear layer"),
        ("data__bits", 16, r"`data.bits` \(16\): timm and transformers read images of 8 bits"),
        ("data__channels", 1, r"`data.channels` \(1\): transformers makes every image RGB"),
    ],
)
def test_what_timm_cannot_build_is_refused(tree: dict[str, Any], key: str, value: Any, reason: str) -> None:
    refuse_what_timm_cannot(parse_config(tree))
    with pytest.raises(
        ConfigError, match=rf"--format timm: {reason}.*; export without --format timm writes model.onnx"
    ):
        refuse_what_timm_cannot(parse_config(changed(tree, **{key: value})))


def test_every_crop_pct_is_found_again() -> None:
    for size in ((32, 32), (224, 224), (384, 384), (40, 48), (448, 448)):
        for percent in range(20, 101):
            scaled = scaled_size(size, percent / 100)
            share = crop_pct(Frame("center", size, scaled))
            assert scaled_size(size, share) == scaled
    assert crop_pct(Frame("center", (224, 224), (224, 224))) == 1.0
