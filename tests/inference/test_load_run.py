"""``load_run``: a run's model, what an image goes through, and the same digits as the commands give."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dist_train
from dist_train.config import parse_config
from dist_train.errors import ConfigError, DataError
from dist_train.inference.load_run import Run, load_run
from dist_train.system.files import read_json
from tests.support.pictures import NAMES, Pictures
from tests.support.process_snapshot import changes, snapshot
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, rows, train
from tests.support.tables import tabled


def test_a_run_has_what_its_folder_says(path: Path) -> None:
    run = dist_train.load_run(path)
    assert isinstance(run, Run)
    assert run.classes == NAMES
    assert run.config.model.name == "test_vit"
    assert (run.result.status, run.result.step, run.result.folder) == ("done", 5, path)
    assert run.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert not any(part.training for part in run.model.modules())


class Mean(nn.Module):
    """A model of a program's own."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean((2, 3)))  # type: ignore[no-any-return]


def _train_own(tree: dict[str, Any], data: Any) -> str:
    return dist_train.train(parse_config(tree), model=Mean, data=data).status


def test_a_run_of_objects_given_in_code_needs_its_model_again(tree: dict[str, Any], image_folder: Path) -> None:
    tree = changed(tree, data__root="nowhere", train__max_steps=3)
    sets = Pictures(image_folder / "train", NAMES), Pictures(image_folder / "val", NAMES)
    assert run_ranks(1, _train_own, tree, sets) == ["done"]
    run_folder = folder(tree)
    with pytest.raises(ConfigError, match=r"trained with a model from Python code \(.*:Mean\): pass it again"):
        load_run(run_folder)
    run = load_run(run_folder, model=Mean, device="cpu")
    best = read_json(run_folder / "result.json")["best"]
    assert run.evaluate(sets[1])["loss"] == best["loss"]
    with pytest.raises(
        DataError, match=r"nowhere.*data sets from Python code \(.*:Pictures.*\): pass one, .*\.evaluate\(data\)"
    ):
        run.evaluate()
    with pytest.raises(ConfigError, match="does not fit the model of the run"):
        load_run(run_folder, model=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)))


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks(tree: dict[str, Any], image_folder: Path, tmp_path: Path, task: str) -> None:
    keys: dict[str, Any] = {"data__format": "csv", "data__task": task, "train__epochs": 1}
    keys |= {"multilabel": {"loss__name": "bce", "eval__metric": "map"}, "regression": {"loss__name": "mse", "eval__metric": "r2"}}[task]  # fmt: skip
    if task == "regression":
        keys["data__csv"] = {"targets": ["red", "width"]}
    run = load_run(train(tree, data__root=str(tabled(image_folder, tmp_path / "tables", task)), **keys), device="cpu")
    (found,) = run.predict(image_folder / "val" / "class_a" / "000.png")
    if task == "regression":
        assert list(found.scores) == ["red", "width"]
    else:
        assert found.labels == [name for name in ("class_a", "class_b", "wide") if found.scores[name] > 0.5]
    best = run.result.best
    assert best is not None
    assert run.evaluate() == {name: value for name, value in best.items() if name != "step"}


def _uses(path: Path, images: Path) -> dict[str, Any]:
    before = snapshot()
    run = load_run(path)
    run.predict(images)
    run.evaluate()
    return changes(before, snapshot())


def test_a_program_stays_as_it_was(tree: dict[str, Any], image_folder: Path) -> None:
    run = train(tree, train__epochs=1, data__workers=2)
    assert run_ranks(1, _uses, run, image_folder / "val") == [{}]


def test_sizes_of_training_and_evaluation_that_are_not_square(tree: dict[str, Any], image_folder: Path) -> None:
    """Evaluation, prediction and the model's input agree, in and after training."""
    keys = {
        "model__name": "test_efficientnet",
        "data__image_size": [32, 48],
        "eval__size": [48, 64],
        "eval__crop_pct": 0.9,
    }
    path = train(tree, **keys, train__epochs=1, augment={"crop": "random_resized", "randaugment": {}})
    run = load_run(path, device="cpu")
    images = sorted((image_folder / "val").rglob("*.jpg"))
    assert run.transform(images[0]).shape == (3, 48, 64)
    assert run.network.image_size == (32, 48)
    assert run.evaluate()["loss"] == rows(path, "val")[-1]["loss"]
    with torch.no_grad():
        alone = run.model(run.transform(images[0])[None]).softmax(1)[0]
    assert torch.allclose(run.predict(images[0])[0].outputs, alone, atol=1e-6)


WITHOUT_COMPILER = """
import sys
{use}
assert "torch" in sys.modules
assert not {{"torch._dynamo.symbolic_convert", "torch._inductor.codecache", "sympy"}} & sys.modules.keys()
"""
"""What must be true of a process that compiles nothing: it has at most the stand-ins of torch's compiler."""


@pytest.mark.parametrize(
    "use",
    [
        "import dist_train; run = dist_train.load_run({run!r}); run.predict({image!r}); run.evaluate()",
        *(
            pytest.param(
                f"import runpy; sys.argv = ['', {arguments}]\n"
                f"try: runpy.run_module('{module}', run_name='__main__')\n"
                "except SystemExit as left: assert left.code == 0",
                marks=pytest.mark.slow,
            )
            for module, arguments in (
                ("dist_train", "'evaluate', {run!r}"),
                ("dist_train.evaluate", "{run!r}"),
                ("dist_train.predict", "{run!r}, {image!r}"),
            )
        ),
    ],
)
def test_who_compiles_nothing_does_not_import_the_compiler(path: Path, image_folder: Path, use: str) -> None:
    image = next((image_folder / "val").rglob("*.*"))
    code = WITHOUT_COMPILER.format(use=use.format(run=str(path), image=str(image)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
