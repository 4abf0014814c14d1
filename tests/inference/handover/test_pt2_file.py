"""``export --format pt2``: torch alone opens the file, and computes the same."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dist_train import load_run
from dist_train.errors import DistTrainError
from dist_train.export import main
from dist_train.inference.handover.pt2_file import packed
from tests.support.commands import call
from tests.support.runs import train

TORCH_ALONE = """
import sys
sys.modules["timm"] = sys.modules["dist_train"] = None
import torch
from safetensors.torch import load_file
more = {"model.json": ""}
model = torch.export.load(sys.argv[1], extra_files=more).module()
case = load_file(sys.argv[2])
assert torch.allclose(model(case["images"]), case["outputs"], atol=1e-5)
print(more["model.json"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_torch_alone_opens_the_file(tree: dict[str, Any], tmp_path: Path, name: str) -> None:
    run = train(tree, model__name=name, train__epochs=1)
    code, out, _ = call(main, run, "--format", "pt2")
    assert code == 0, out
    images, file = torch.randn(5, 3, 32, 32), run / "export" / "model.pt2"
    with torch.no_grad():
        save_file(
            {"images": images, "outputs": load_run(run, device="cpu").model(images)}, tmp_path / "case.safetensors"
        )
    command = [sys.executable, "-c", TORCH_ALONE, str(file), str(tmp_path / "case.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"] == ["class_a", "class_b", "class_c"]
    for private in (b"site-packages", str(run).encode(), str(Path.home()).encode() + os.sep.encode()):
        assert private not in file.read_bytes()


class Choosing(nn.Module):
    """A model whose way depends on the values of its images, which no graph can express."""

    def forward(self, images: Tensor) -> Tensor:
        outputs = images.mean((2, 3))
        return outputs * 2 if outputs.sum().item() > 0 else outputs


def test_a_model_that_is_no_graph_is_told() -> None:
    with pytest.raises(DistTrainError, match=r"model.pt2: torch.export cannot export this model: "):
        packed(Path("model.pt2"), Choosing(), torch.zeros((2, 3, 8, 8)), "{}")
