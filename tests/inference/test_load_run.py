"""``load_run``: a run's model, what an image goes through, and the same digits as the commands give."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import dist_train
from dist_train.config import parse_config
from dist_train.errors import ConfigError, DataError
from dist_train.inference.load_run import Run, load_run
from dist_train.run.predictions import load_predictions
from dist_train.system.files import read_json
from tests.support.process_snapshot import changes, snapshot
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, train
from tests.support.tables import tabled

NAMES = ["class_a", "class_b", "class_c"]


@pytest.fixture
def path(tree: dict[str, Any]) -> Path:
    return train(tree, train__epochs=1, augment={"crop": "random_resized"})


def test_a_run_has_what_its_folder_says(path: Path) -> None:
    run = dist_train.load_run(path)
    assert isinstance(run, Run)
    assert run.classes == NAMES
    assert run.config.model.name == "test_vit"
    assert (run.result.status, run.result.step, run.result.folder) == ("done", 5, path)
    assert run.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert not any(part.training for part in run.model.modules())


def test_the_transform_is_what_an_evaluation_uses(path: Path, image_folder: Path) -> None:
    run = load_run(path, device="cpu")
    kept = load_predictions(path / "predictions.npz")
    assert kept is not None
    files = [image_folder / name for name in kept.paths]
    images = torch.stack([run.transform(file) for file in files])
    assert (images.shape, images.dtype) == ((23, 3, 32, 32), torch.float32)
    with torch.no_grad():
        assert run.model(images).argmax(1).tolist() == kept.pred_N.tolist()
    with Image.open(files[0]) as image:
        assert torch.equal(run.transform(image), run.transform(str(files[0])))


def test_predictions_are_those_of_the_evaluation(path: Path, image_folder: Path) -> None:
    run = load_run(path, device="cpu")
    kept = load_predictions(path / "predictions.npz")
    assert kept is not None
    found = run.predict(image_folder / "val", batch_size=7)
    assert [one.image for one in found] == [image_folder / name for name in kept.paths]
    assert [one.label for one in found] == [NAMES[number] for number in kept.pred_N]
    for one in found:
        assert sum(one.scores.values()) == pytest.approx(1, abs=1e-5)
        (best, share), *others = one.top(2)
        assert (best, share) == (one.label, max(one.scores.values()))
        assert [score for _, score in others] <= [share]
    with Image.open(image_folder / kept.paths[0]) as image:
        (of_image,) = run.predict(image)
    assert torch.allclose(of_image.outputs, found[0].outputs, atol=1e-6)
    mixed = run.predict([str(image_folder / kept.paths[1]), image_folder / "val" / "class_b"])
    assert len(mixed) == 1 + len(list((image_folder / "val" / "class_b").iterdir()))


def test_what_cannot_be_predicted(path: Path, tmp_path: Path) -> None:
    run = load_run(path, device="cpu")
    (tmp_path / "bad.jpg").write_text("not an image")
    with pytest.raises(DataError, match=r"cannot read the image .*bad\.jpg"):
        run.predict(tmp_path / "bad.jpg")
    with pytest.raises(DataError, match="there is no file or folder"):
        run.predict([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="hold no images"):
        run.predict(tmp_path / "empty")


def test_an_evaluation_gives_the_digits_of_the_run(path: Path, image_folder: Path, tmp_path: Path) -> None:
    run, best = load_run(path, device="cpu"), read_json(path / "result.json")["best"]
    expected = {name: best[name] for name in ("loss", "top1", "top5", "macro_f1")}
    assert run.evaluate() == expected
    assert run.evaluate(image_folder) == expected, "a folder as `data.format` wants it"
    assert run.evaluate(str(image_folder / "val")) == expected, "a folder of classes"
    part = tmp_path / "part"
    shutil.copytree(image_folder / "val" / "class_b", part / "class_b")
    recall = 100 * np.mean([one.label == "class_b" for one in run.predict(part)])
    assert run.evaluate(part)["top1"] == pytest.approx(recall)
    (part / "other").mkdir()
    with pytest.raises(DataError, match="has folders that are not classes of the run: other"):
        run.evaluate(part)
    with pytest.raises(DataError, match="has no images"):
        (tmp_path / "none").mkdir()
        run.evaluate(tmp_path / "none")


class Pictures:
    """A data set of a program's own: the files below a folder of classes."""

    def __init__(self, root: Path, classes: list[str]) -> None:
        self.files = [file for name in NAMES for file in sorted((root / name).iterdir())]
        self.targets = [NAMES.index(file.parent.name) for file in self.files]
        self.classes = classes

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        return Image.open(self.files[number]), self.targets[number]


def test_an_evaluation_takes_a_data_set(path: Path, image_folder: Path) -> None:
    run = load_run(path, device="cpu")
    for classes in (NAMES, []):
        scores = run.evaluate(Pictures(image_folder / "val", classes))
        assert scores == pytest.approx(run.evaluate())
    with pytest.raises(ConfigError, match="learnt other classes than"):
        run.evaluate(Pictures(image_folder / "val", ["x", "y", "z"]))


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
    with pytest.raises(ConfigError, match=r"trained with a model given in code \(.*:Mean\): give it again"):
        load_run(run_folder)
    run = load_run(run_folder, model=Mean, device="cpu")
    best = read_json(run_folder / "result.json")["best"]
    assert run.evaluate(sets[1])["loss"] == best["loss"]
    with pytest.raises(DataError, match="nowhere"):
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
    run = train(tree, train__epochs=1, data__workers=2, data__persistent_workers=True)
    assert run_ranks(1, _uses, run, image_folder / "val") == [{}]
