"""What a model says of files, folders and PIL images; what an image goes through before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dist_train.config.choice_table import Task
from dist_train.errors import DataError
from dist_train.inference.load_run import load_run
from dist_train.inference.predictor import Prediction, Predictor, images_of
from dist_train.run.predictions import load_predictions
from tests.support.deep_images import make_deep_folder
from tests.support.pictures import NAMES
from tests.support.runs import changed, train


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
    with pytest.raises(DataError, match=r"the file or folder .* does not exist"):
        run.predict([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="folders hold no images"):
        run.predict(tmp_path / "empty")


def test_the_error_of_an_image_stands_in_its_place(path: Path, image_folder: Path, tmp_path: Path) -> None:
    run = load_run(path, device="cpu")
    (tmp_path / "bad.jpg").write_text("not an image")
    good = image_folder / "val" / "class_a" / "000.png"
    predictor = Predictor(run.config, run.network, run.classes, run.device, run.rules)
    images = [good, tmp_path / "bad.jpg", good, tmp_path / "bad.jpg"]
    found = list(predictor(images_of(images), batch_size=3))
    assert [isinstance(one, Prediction) for one in found] == [True, False, True, False]
    assert all(isinstance(one, DataError) for one in found[1::2])


def test_an_image_of_any_mode(path: Path) -> None:
    run = load_run(path, device="cpu")
    grey = Image.fromarray(np.full((40, 50), 77, np.uint8))
    assert torch.equal(run.transform(grey), run.transform(grey.convert("RGB")))


@pytest.mark.parametrize("crop", ["squash", "pad"])
def test_the_whole_image_is_seen_as_the_evaluation_saw_it(tree: dict[str, Any], image_folder: Path, crop: str) -> None:
    trained = train(tree, augment={"crop": "random_resized"}, eval__crop=crop, train__epochs=1)
    run, kept = load_run(trained, device="cpu"), load_predictions(trained / "predictions.npz")
    assert kept is not None
    found = [one.label for one in run.predict(image_folder / "val")]
    assert found == [NAMES[number] for number in kept.pred_N]
    edge = np.zeros((40, 80, 3), dtype=np.uint8)
    edge[:, :8] = 255  # which a middle would not show
    assert run.transform(Image.fromarray(edge)).unique().numel() > 2


def test_deep_images_are_seen_as_training_saw_them(tree: dict[str, Any], tmp_path: Path) -> None:
    root = make_deep_folder(tmp_path / "deep")
    trained = train(changed(tree, data__root=str(root), train__global_batch=6), train__epochs=1)
    run = load_run(trained, device="cpu")
    file = root / "val" / "class_a" / "003.png"
    with Image.open(file) as image:
        values = np.asarray(image)
        assert torch.equal(run.transform(image), run.transform(file))
    in_8_bits = Image.fromarray((values // 16).astype(np.uint8))
    assert torch.equal(run.transform(file), run.transform(in_8_bits))
    with pytest.raises(DataError, match=r"cannot use the image .*: 16 of its 16 values are NaN"):
        run.transform(Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)))


@pytest.mark.parametrize(
    ("task", "shown"),
    [
        ("classification", "Prediction(a.jpg: dog 0.75)"),
        ("multilabel", "Prediction(a.jpg: dog)"),
        ("regression", "Prediction(a.jpg: cat 0.25, dog 0.75)"),
    ],
)
def test_a_notebook_shows_what_was_predicted(task: Task, shown: str) -> None:
    assert repr(Prediction(Path("a.jpg"), task, ("cat", "dog"), torch.tensor([0.25, 0.75]))) == shown
