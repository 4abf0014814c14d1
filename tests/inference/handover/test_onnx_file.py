"""``python -m dist_train.export``: other programs load the files and compute the same."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from dist_train import load_run
from dist_train.errors import DistTrainError
from dist_train.export import main
from dist_train.inference.handover.onnx_file import _write_onnx
from dist_train.system.files import read_json
from tests.support.commands import call, help_takes_no_torch
from tests.support.images import make_array_folder
from tests.support.runs import changed, train


def test_help_is_quick() -> None:
    assert "model.onnx" in help_takes_no_torch("export")


@pytest.mark.parametrize("name", ["test_vit", pytest.param("test_efficientnet", marks=pytest.mark.slow)])
def test_exported_files_compute_what_the_model_does(tree: dict[str, Any], name: str) -> None:
    run = train(tree, model__name=name, train__epochs=1, augment={"crop": "random_resized"})
    code, out, _ = call(main, run)
    assert code == 0
    told = re.findall(r"model\.(\w+): [\d.]+ MB, outputs differ by at most (\S+) ", out)
    assert [kind for kind, _ in told] == ["safetensors", "onnx"]
    assert all(float(difference) < 1e-4 for _, difference in told)

    description = read_json(run / "export" / "model.json")
    assert description["classes"] == ["class_a", "class_b", "class_c"]
    assert description["input"]["shape"] == ["batch", 3, 32, 32]
    assert description["input"]["resize_shorter_side_to"] > 32
    model = timm.create_model(name, num_classes=3, **({"img_size": 32} if name == "test_vit" else {})).eval()
    model.load_state_dict(safetensors.torch.load_file(run / "export" / "model.safetensors"))
    file = run / "export" / "model.onnx"
    onnx.checker.check_model(onnx.load(file), full_check=True)
    named = {each.key: json.loads(each.value) for each in onnx.load(file).metadata_props}
    assert named.pop("dist_train") == description
    assert (named["classes"], named["size"], named["activation"]) == (description["classes"], [32, 32], "softmax")
    assert {name: description["input"][name] for name in ("mean", "std", "interpolation")}.items() <= named.items()
    for written in (run / "export").iterdir():
        for private in (
            b"site-packages",
            b'File "',
            str(run).encode(),
            str(Path.home()).encode(),
            os.uname().nodename.encode(),
        ):
            assert len(private) < 3 or private not in written.read_bytes(), (written, private)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        images = torch.randn(batch, 3, 32, 32)
        (found,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            assert np.abs(np.asarray(found) - model(images).numpy()).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_in_half_precision(tree: dict[str, Any], name: str) -> None:
    run = train(tree, model__name=name, train__epochs=1)
    code, out, _ = call(main, run, "--half")
    assert code == 0, out
    assert not (run / "export" / "model.onnx").exists()
    file = run / "export" / "model_fp16.onnx"
    assert file.stat().st_size < 0.95 * (run / "best.safetensors").stat().st_size  # the graph itself takes most of it
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    images = torch.randn(1, 3, 32, 32)
    (found,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = load_run(run, device="cpu").model(images)
    assert found.dtype == np.float32
    assert np.abs(np.asarray(found) - expected.numpy()).max() < 0.02 * max(1.0, float(expected.abs().max()))


def test_half_is_for_onnx(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "--half", "--format", "timm"])


@pytest.mark.slow
def test_the_exported_shape_is_that_of_the_evaluation(tree: dict[str, Any], tmp_path: Path) -> None:
    """Four channels of 16 bits, an input that is not square, and an evaluation of another size."""
    data = {"root": str(make_array_folder(tmp_path / "arrays", 4)), "channels": 4, "bits": 16, "workers": 0}
    data |= {"image_size": [32, 48], "mean": [0.4] * 4, "std": [0.3] * 4}
    keys = {"train__global_batch": 8, "train__epochs": 1, "eval": {"size": [40, 48], "interpolation": "bilinear"}}
    run = train(changed(tree, model__name="test_efficientnet", data=data, **keys))
    code, _, _ = call(main, run)
    assert code == 0
    inputs = read_json(run / "export" / "model.json")["input"]
    assert inputs["shape"] == ["batch", 4, 40, 48]
    assert (inputs["resize_to_cover"], inputs["crop_middle"]) == ([40, 48], [40, 48])
    assert (inputs["interpolation"], inputs["levels"]) == ("bilinear, antialiased", 65536)
    assert inputs["order"].startswith("RGB and transparency, scaled to 0..1")
    session = onnxruntime.InferenceSession(run / "export" / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"images": np.zeros((3, 4, 40, 48), np.float32)})[0].shape == (3, 2)


class Choosing(nn.Module):
    """A model whose way depends on the values of its images, which no graph can express."""

    def forward(self, images: Tensor) -> Tensor:
        outputs = images.mean((2, 3))
        return outputs * 2 if outputs.sum().item() > 0 else outputs


def test_a_model_that_is_no_graph_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DistTrainError, match=r"model.onnx: torch cannot export this model to ONNX: .*; the other files"
    ):
        _write_onnx(tmp_path / "model.onnx", Choosing(), torch.zeros((2, 3, 8, 8)), {})


def test_what_is_no_run(tmp_path: Path) -> None:
    code, _, err = call(main, tmp_path)
    assert (code, err) == (
        2,
        f"error: {tmp_path} is not a run folder: it has no config.yaml; give the folder of a run\n",
    )
