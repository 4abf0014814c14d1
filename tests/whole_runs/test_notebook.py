"""A notebook that trains: on the demo's images, with a model, a data set and a loss of its own."""

import tarfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

IMAGES = Path(__file__).parents[1] / "data" / "fashion_mnist.tar.gz"

OBJECTS = """
import signal
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import dist_train as dt
from dist_train.config import parse_config


class Clothes:
    def __init__(self, split):
        self.files = sorted(Path("images", split).rglob("*.png"))
        self.classes = sorted({file.parent.name for file in self.files})
        self.targets = [self.classes.index(file.parent.name) for file in self.files]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return Image.open(self.files[index]), self.targets[index]


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        )
        self.head = nn.Linear(288, num_classes)

    def forward(self, images):
        return self.head(self.body(images))


def loss(outputs, targets):
    return F.cross_entropy(outputs, targets, label_smoothing=0.1)


config = {
    "run": {"name": "notebook"},
    "model": {"name": "resnet18", "pretrained": False},  # not built: the notebook gives its own
    "data": {"root": "images", "image_size": 28, "workers": 1},
    "optim": {"name": "adamw", "lr": 3e-3},
    "train": {"epochs": 3, "global_batch": 50},
    "log": {"every_steps": 20, "tensorboard": False, "wandb": {"mode": "disabled"}},
}
"""

CELLS = [
    OBJECTS,
    "result = dt.train(parse_config(config), model=Net, data=(Clothes('train'), Clothes('val')), loss=loss)",
    "assert result.status == 'done' and result.best['top1'] > 60, result",
    "run = dt.load_run(result.folder, model=Net)\n"
    "assert run.evaluate(Clothes('val'))['top1'] == result.best['top1']\n"
    "run.predict('images/val/bag')[0].top(2)",
    "try:\n"
    "    dt.train(parse_config(config | {'optim': {'lr': 1.0}}), model=Net, data=(Clothes('train'), Clothes('val')), loss=loss)\n"
    "except dt.ConfigError as error:\n"
    "    print('refused:', error)",
    "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    "again = dt.train(parse_config(config), model=Net, data=(Clothes('train'), Clothes('val')), loss=loss)\n"
    "assert (again.status, again.step) == ('done', result.step)",
]


@pytest.mark.slow
def test_a_notebook_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with tarfile.open(IMAGES) as archive:
        archive.extractall(tmp_path / "images", filter="data")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    training, prediction, refused = (notebook.cells[number].outputs for number in (1, 3, 4))
    text = _printed(training)
    assert "val" in text
    for sign in ("\r", "%|", "step/s"):  # of a progress bar, which leaves a mess where nothing is drawn over
        assert sign not in text
    assert prediction[-1]["data"]["text/plain"].startswith("[('")
    assert "refused: " in _printed(refused)
    assert "`optim.lr` was 0.003 and is now 1.0" in _printed(refused)


def _printed(outputs: list[Any]) -> str:
    return "".join(output["text"] for output in outputs if output.output_type == "stream")
